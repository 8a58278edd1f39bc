"""`python -m satellite_bench.room_process`: many satellites in a process of their own, controlled by JSON.

The first line of output names their addresses; they are switched off at first. Then every line of input is a request,
`{"do": name, ...}`, and is answered by a line with what happened, its times by `time.monotonic`, which all processes
of a machine share. The satellites are those of a checkout's tests.
"""

import argparse
import asyncio
import base64
import json
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from wyoming.event import Event

from satellite.audio.pcm import BYTES_PER_SECOND, read_wav
from tests.doubles.satellite import ScriptedSatellite

_SOUND_SECONDS = 60.0
_SAME_MOMENT_SECONDS = 0.5
_NO_SOUND = "the model said nothing"
_PAUSE = bytes(BYTES_PER_SECOND)
"""Behind the wake word: some are recognised only half a second after their end."""

_REMEMBERED_CHUNKS = 1000
_RETOLD_CHUNKS = 50
"""About three seconds: more than a wake word looks back on, less than since the one before."""


class Room(ScriptedSatellite):
    """A satellite that knows when it has sent what."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._sent: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED_CHUNKS)
        self._sounds: deque[bytes] = deque(maxlen=_RETOLD_CHUNKS)
        self._sent_seconds = 0.0

    async def send(self, event: Event) -> None:
        """Send an event; of sound, keep how much of the stream has gone and when."""
        if event.type == "run-pipeline":
            self._sent.clear()
            self._sent_seconds = 0.0
        elif event.type == "audio-chunk":
            self._sent_seconds += len(event.payload or b"") / BYTES_PER_SECOND
            self._sent.append((time.monotonic(), self._sent_seconds))
            self._sounds.append(event.payload or b"")
        await super().send(event)

    def sent_at(self, seconds: float) -> float | None:
        """Return when the sound of the present stream up to `seconds` had been sent; None if that is forgotten.

        A server counts from the first sound after `run-pipeline`, in its first run.
        """
        if self._sent and self._sent[0][1] > seconds:
            return None
        return next((at for at, until in self._sent if until >= seconds), None)

    def retold(self) -> dict[str, Any]:
        """Return the last sound that was sent, and when each chunk of it was."""
        times = [at for at, _ in self._sent][-len(self._sounds) :]
        return {"sound": [base64.b64encode(sound).decode() for sound in self._sounds], "sent_at": times}

    async def said(self, pcm: bytes) -> float:
        """Say something and return when the last of it was sent."""
        await self.say(pcm)
        return time.monotonic()

    def forget(self) -> None:
        """Ignore what has come until now."""
        self._unseen.clear()


async def ask(room: Room, wake_word: bytes, question: bytes) -> dict[str, Any]:
    """Call, ask and hear the answer out."""
    room.forget()
    called_at = await room.said(wake_word)
    talking = asyncio.create_task(room.said(_PAUSE + question))
    detection = await room.until("detection")
    asked_at = await talking
    outcome = await room.until("transcript", "error", seconds=_SOUND_SECONDS)
    found: dict[str, Any] = {
        "called_at": called_at,
        "detection_at": detection.at,
        "decided_at": room.sent_at(detection.data["timestamp"] / 1000),
        "asked_at": asked_at,
        "outcome_at": outcome.at,
        "text": outcome.data.get("text", ""),
        "failed": outcome.type == "error",
    }
    if not found["failed"]:
        first = await room.until("audio-chunk", "error", "detect", seconds=_SOUND_SECONDS)
        if first.type != "audio-chunk":
            found |= {"failed": True, "text": first.data.get("text", _NO_SOUND)}
        found["sound_at"] = first.at
        if first.type == "detect":
            return found
    await room.until("detect", seconds=_SOUND_SECONDS)
    return found


async def interrupt(room: Room, wake_word: bytes, question: bytes) -> dict[str, Any]:
    """Ask, and call again in the middle of the answer."""
    room.forget()
    await room.said(wake_word + _PAUSE + question)
    begun = await room.until("audio-start", "error", "detect", seconds=_SOUND_SECONDS)
    if begun.type != "audio-start":
        raise ValueError(f"no answer to interrupt: {begun.data.get('text', _NO_SOUND)}")
    await asyncio.sleep(0.2)
    stopped = asyncio.create_task(room.until("audio-stop", seconds=_SOUND_SECONDS))
    await room.until("detection")
    called_at = await room.said(wake_word)
    stopped_at = (await stopped).at
    retold = room.retold()
    again = await room.until("detection")
    chunks = [event.at for event in room.events if event.type == "audio-chunk" and event.at <= stopped_at]
    silent = await room.until("error", seconds=_SOUND_SECONDS)  # the second command is silence
    while (await room.until("detect", seconds=_SOUND_SECONDS)).at < silent.at:
        pass
    if again.at - stopped_at > _SAME_MOMENT_SECONDS:
        raise ValueError("the answer was over before it could be interrupted")
    return {
        "called_at": called_at,
        "last_chunk_at": chunks[-1],
        "stopped_at": stopped_at,
        "detection_at": again.at,
        **retold,
    }


async def cut(room: Room) -> dict[str, Any]:
    """Lose the connection, and wait until a server listens again."""
    room.forget()
    cut_at = time.monotonic()
    room.vanish()
    claimed = await room.until("run-satellite", seconds=_SOUND_SECONDS)
    listening = await room.until("detect", seconds=_SOUND_SECONDS)
    return {"cut_at": cut_at, "claimed_at": claimed.at, "listening_at": listening.at}


async def switch_on(rooms: Sequence[Room], seconds: float) -> dict[str, Any]:
    """Switch satellites on, and wait until a server listens in all their rooms."""
    for room in rooms:
        await room.start()
    await asyncio.gather(*(room.until("detect", seconds=seconds) for room in rooms))
    return {"rooms": len(rooms)}


async def _do(request: dict[str, Any], rooms: Sequence[Room]) -> Any:
    """Carry out a request, in all of its rooms at once."""
    meant = [rooms[number] for number in request.get("rooms", range(len(rooms)))]
    match request["do"]:
        case "switch on":
            return await switch_on(meant, request["seconds"])
        case "ask" | "interrupt" as what:
            wake_word = read_wav(Path(request["wake_word"]))
            questions = [read_wav(Path(name)) for name in request["questions"]]
            do = ask if what == "ask" else interrupt
            pairs = zip(meant, questions, strict=True)
            return await asyncio.gather(*(do(room, wake_word, question) for room, question in pairs))
        case "cut":
            return await asyncio.gather(*map(cut, meant))
        case unknown:
            raise ValueError(f"unknown request: {unknown}")


async def _serve(count: int) -> None:
    async with AsyncExitStack() as stack:
        rooms = [await stack.enter_async_context(Room(mode="always", name=f"room {i + 1}")) for i in range(count)]
        for room in rooms:
            await room.stop()
        print(json.dumps([room.uri for room in rooms]), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            try:
                answer = {"done": await _do(json.loads(line), rooms)}
            except (TimeoutError, OSError, ValueError, KeyError) as error:
                answer = {"failed": str(error) or type(error).__name__}
            print(json.dumps(answer), flush=True)


def main() -> int:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser(prog="satellite_bench.room_process", description="rooms that stream")
    parser.add_argument("--rooms", type=int, default=1)
    asyncio.run(_serve(parser.parse_args().rooms))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
