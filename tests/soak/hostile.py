"""Clients that break the rules: `python -m tests.soak.hostile PORT FRAMES CONNECTIONS SECONDS`, a process of its own.

It sends its frames over its connections, again over new ones where the daemon has closed them, and prints one line of
JSON: how many frames went out, and how many connections were opened for them.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

_BATCH = 50
"""Frames that are written at once."""

_STALL_SECONDS = 5.0
"""How long somebody who sends half an event, or does not read, keeps the connection."""


def frame(type_: str, data: object = None, payload: bytes = b"", **header: object) -> bytes:
    """Return an event as it goes over the wire, well-formed or not."""
    body = b"" if data is None else json.dumps(data).encode()
    sizes = {"data_length": len(body)} if body else {}
    if payload:
        sizes["payload_length"] = len(payload)
    return json.dumps({"type": type_, **sizes, **header}).encode() + b"\n" + body + payload


_SHAPE = {"rate": 16_000, "width": 2, "channels": 1}
_DEEP = b"[" * 5_000 + b"]" * 5_000

_TOLERATED = [
    frame("no-such-event"),
    frame("no-such-event", {"a": [1, {"b": None}]}),
    frame("ping", {"text": "x" * 1_000}),
    frame("describe"),
    frame("audio-chunk", {"rate": "many", "width": 2, "channels": 1}, b"\0\0"),
    frame("audio-chunk", {"rate": 16_000, "width": 9, "channels": 0}, b"\0\0\0"),
    frame("audio-start", {}),
    frame("transcribe", {"language": 5}),
    frame("transcribe", {"name": "x" * 10_000}),
    frame("detect", {"names": "okay_nabu"}),
    frame("audio-chunk", {**_SHAPE, "timestamp": 12.5}, b"\0\1" * 256),
    frame("audio-stop"),
    frame("synthesize", {"text": None}),
    frame("synthesize", {"text": ", , , " * 500}),
    frame("synthesize-chunk", {"text": "nobody has begun"}),
    frame("synthesize-stop"),
    frame("select-program", {"name": "n" * 50_000}),
    frame("run-pipeline", {"start_stage": "asr", "end_stage": 7}),
    frame("run-pipeline", {"start_stage": "tts", "end_stage": "tts", "announce_text": 5}),
    frame("announce", {"rooms": 5, "text": []}),
    frame("transcript", {"text": {"not": "text"}}),
    frame("status", {"what": "is this"}),
]
"""What a connection survives."""

_FATAL = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\xff\xfe\x00garbage\n",
    b"{}\n",
    b"{" * 200_000,
    frame("ping", header=[])[:-1] + b"x\n",
    b'{"type": "ping", "data_length": 10000}\n' + _DEEP,
    b'{"type": "ping", "data_length": -1}\n',
    b'{"type": "ping", "payload_length": 99999999999}\n',
    b'{"type": "audio-chunk", "payload_length": true}\n',
]
"""What costs the connection."""


@dataclass
class Storm:
    """What all clients together have sent, and how much they have still to send."""

    frames: int
    until: float
    sent: Counter[str] = field(default_factory=Counter)

    def goes_on(self) -> bool:
        return self.sent["frames"] < self.frames and time.monotonic() < self.until


async def _flood(writer: asyncio.StreamWriter, storm: Storm, chance: random.Random) -> None:
    """Send what is tolerated, some at a time, and at last perhaps something fatal."""
    for _ in range(chance.randint(1, 40)):
        if not storm.goes_on():
            return
        writer.write(b"".join(chance.choices(_TOLERATED, k=_BATCH)))
        await writer.drain()
        storm.sent["frames"] += _BATCH
    if chance.random() < 0.5:
        writer.write(chance.choice(_FATAL))
        await writer.drain()
        storm.sent["frames"] += 1


async def _half(writer: asyncio.StreamWriter, storm: Storm, chance: random.Random) -> None:
    """Send half an event, and no more."""
    whole = chance.choice(_TOLERATED)
    writer.write(whole[: len(whole) // 2])
    await writer.drain()
    storm.sent["frames"] += 1
    await asyncio.sleep(_STALL_SECONDS)


async def _deaf(writer: asyncio.StreamWriter, storm: Storm, _: random.Random) -> None:
    """Ask for much, and read nothing."""
    ask = (frame("describe") + frame("synthesize", {"text": "This is never heard. " * 20})) * 10
    until = time.monotonic() + _STALL_SECONDS
    while storm.goes_on() and time.monotonic() < until:
        writer.write(ask)
        await asyncio.wait_for(writer.drain(), _STALL_SECONDS)
        storm.sent["frames"] += 20


async def _vanish(writer: asyncio.StreamWriter, storm: Storm, chance: random.Random) -> None:
    """Ask for an answer, and leave without a word before it comes."""
    writer.write(frame("transcribe") + frame("audio-start", _SHAPE))
    writer.write(frame("audio-chunk", _SHAPE, b"\0\1" * 8_000) * 4)
    if chance.random() < 0.5:
        writer.write(frame("audio-stop") + frame("synthesize", {"text": "Hello there."}))
    await writer.drain()
    storm.sent["frames"] += 8
    writer.transport.abort()


async def _client(port: int, storm: Storm, chance: random.Random) -> None:
    while storm.goes_on():
        kind = chance.choice((_flood, _flood, _flood, _flood, _half, _deaf, _vanish))
        try:
            # A deaf client keeps a small buffer, so that the daemon notices.
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024 if kind is _deaf else 65536)
        except OSError:
            await asyncio.sleep(0.1)
            continue
        storm.sent["connections"] += 1
        reading = None if kind is _deaf else asyncio.create_task(reader.read())
        try:
            async with asyncio.timeout(30):
                await kind(writer, storm, chance)
        except (OSError, TimeoutError):
            pass  # the daemon has closed it, as it may
        finally:
            writer.transport.abort()
            if reading is not None:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)


async def main(port: int, frames: int, connections: int, seconds: float) -> Counter[str]:
    """Be hostile until the frames are sent or the time is over; return what was sent, and over how much."""
    storm = Storm(frames, time.monotonic() + seconds)
    async with asyncio.TaskGroup() as clients:
        for number in range(connections):
            clients.create_task(_client(port, storm, random.Random(number)))
    return storm.sent


if __name__ == "__main__":
    _port, _frames, _connections = (int(argument) for argument in sys.argv[1:4])
    print(json.dumps(asyncio.run(main(_port, _frames, _connections, float(sys.argv[4])))))
