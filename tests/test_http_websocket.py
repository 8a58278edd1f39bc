"""`/ws`: text and voice, barge-in, and clients that are slow, wrong or gone."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from satellite.audio.pcm import BYTES_PER_SECOND
from satellite.http.outbox import Outbox
from tests.http_daemon import client
from tests.running_daemon import RunningDaemon
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.models

CHUNK = BYTES_PER_SECOND // 25
LONG = "Tell me a long story about a ship, please. Do not stop before it has come to its end."
QUESTION = "What is the capital of France?"


class Peer:
    """A client of `/ws`."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.sound = bytearray()

    async def say(self, type_: str, **data: Any) -> None:
        """Send an event."""
        await self._connection.send(json.dumps({"type": type_, **data}))

    async def stream(self, pcm: bytes, *, paced: bool = False) -> None:
        """Send sound, as a microphone gives it or at once."""
        for at in range(0, len(pcm), CHUNK):
            await self._connection.send(pcm[at : at + CHUNK])
            if paced:
                await asyncio.sleep(CHUNK / BYTES_PER_SECOND)

    async def event(self) -> dict[str, Any]:
        """Return the next event, and keep the sound before it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while isinstance(message := await self._connection.recv(), bytes):
                self.sound += message
        found: dict[str, Any] = json.loads(message)
        return found

    async def until(self, type_: str) -> list[dict[str, Any]]:
        """Return all events up to one of `type_`."""
        events = [await self.event()]
        while events[-1]["type"] != type_:
            events.append(await self.event())
        return events

    async def run(self, type_: str, **data: Any) -> dict[str, dict[str, Any]]:
        """Send an event, and return the events of the run that follows, the last one of each type."""
        await self.say(type_, **data)
        return {event["type"]: event for event in await self.until("run-end")}


@asynccontextmanager
async def peer(daemon: RunningDaemon, **more: Any) -> AsyncIterator[Peer]:
    """Connect, and wait until the server is ready."""
    async with connect(f"ws://127.0.0.1:{daemon.port('http')}/ws", max_size=None, **more) as connection:
        one = Peer(connection)
        ready = await one.event()
        assert ready["type"] == "ready"
        assert ready["conversation_id"]
        yield one


def types(events: list[dict[str, Any]]) -> list[str]:
    """Return what events are called, the same ones in a row once."""
    names = [event["type"] for event in events]
    return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]


async def test_text_is_answered_in_words_and_sound(daemon: RunningDaemon) -> None:
    async with peer(daemon) as one:
        await one.say("text", text=QUESTION)
        events = await one.until("run-end")
    names = types(events)
    assert names[:3] == ["run-start", "chat-start", "chat-delta"]
    assert names[-2:] == ["tts-end", "run-end"]
    by_type = {event["type"]: event for event in events}
    text = "".join(event["text"] for event in events if event["type"] == "chat-delta")
    assert by_type["chat-end"]["text"] == text.strip()
    assert by_type["chat-end"]["provider"] == "local"
    sound_seconds = len(one.sound) / 2 / by_type["tts-start"]["rate"]
    assert sound_seconds == pytest.approx(by_type["tts-end"]["audio_seconds"], abs=0.01)
    assert len({event["run_id"] for event in events}) == 1


async def test_a_client_that_wants_no_sound(daemon: RunningDaemon) -> None:
    async with peer(daemon) as one:
        await one.say("hello", conversation_id="quiet", language="en", speak=False)
        ready = await one.event()
        assert (ready["conversation_id"], ready["language"], ready["speak"]) == ("quiet", "en", False)
        assert "tts-start" not in await one.run("text", text=QUESTION)
    assert not one.sound


async def test_speech_is_endpointed_here(daemon: RunningDaemon, question: bytes) -> None:
    async with peer(daemon) as one:
        await one.say("listen")
        await one.stream(question)
        events = await one.until("run-end")
    names = types(events)
    assert names[:5] == ["run-start", "stt-start", "stt-vad-start", "stt-vad-end", "stt-end"]
    by_type = {event["type"]: event for event in events}
    assert "capital of france" in by_type["stt-end"]["text"].lower()
    heard = await asyncio.to_thread(understood, daemon, bytes(one.sound), by_type["tts-start"]["rate"])
    assert heard


def understood(daemon: RunningDaemon, pcm: bytes, rate: int) -> str:
    """Return the words in an answer."""
    with client(daemon) as http:
        kind = {"Content-Type": f"audio/pcm; rate={rate}"}
        return str(http.post("/stt", content=pcm, headers=kind).json()["text"])


async def test_sound_at_another_rate_and_its_end(daemon: RunningDaemon, question: bytes) -> None:
    speech = np.frombuffer(question, np.int16)[: -2 * BYTES_PER_SECOND // 2]
    async with peer(daemon) as one:
        await one.say("listen", rate=48_000)
        await one.stream(np.repeat(speech, 3).tobytes())
        assert "capital of france" in (await one.run("end"))["stt-end"]["text"].lower()


async def test_silence_is_an_error_and_the_connection_goes_on(daemon: RunningDaemon) -> None:
    async with peer(daemon) as one:
        await one.say("listen")
        await one.stream(bytes(6 * BYTES_PER_SECOND))
        events = await one.until("run-end")
        assert events[-2]["code"] == "stt-no-speech"
        await one.say("text", text="What time is it?")
        assert (await one.until("chat-end"))[-1]["provider"] == "commands"


async def test_cancel(daemon: RunningDaemon) -> None:
    async with peer(daemon) as one:
        await one.say("text", text=LONG)
        run_id = (await one.until("chat-delta"))[-1]["run_id"]
        await one.say("cancel")
        assert (await one.until("cancelled"))[-1] == {"type": "cancelled", "run_id": run_id}
        assert await one.event() == {"type": "run-end", "run_id": run_id, "cancelled": True}
        before = len(one.sound)
        await one.say("hello")
        await one.until("ready")
        assert len(one.sound) == before


async def test_what_is_over_is_not_cancelled(daemon: RunningDaemon, question: bytes) -> None:
    async with peer(daemon) as one:
        for _ in range(2):
            events = await one.run("text", text="What time is it?")
            assert next(iter(events)) == "run-start"
            assert "cancelled" not in events
            assert len({event["run_id"] for event in events.values()}) == 1
        await one.say("cancel")
        await one.say("listen")
        await one.stream(question)
        events = await one.run("end")
        assert list(events)[:2] == ["run-start", "stt-start"]
        assert "cancelled" not in events


@pytest.mark.parametrize("path", ["/v1/realtime", "/ws/", "/"])
async def test_there_is_no_other_websocket(daemon: RunningDaemon, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://127.0.0.1:{daemon.port('http')}{path}")
    assert refused.value.response.status_code == 404
    told = json.loads(refused.value.response.body)
    assert told["code"] == "http-not-found"
    assert told["detail"] == f"there is no WebSocket at {path}, only at /ws"
    assert ("error" in told) is path.startswith("/v1/")


async def test_speaking_up_ends_the_answer(daemon: RunningDaemon, question: bytes) -> None:
    async with peer(daemon) as one:
        await one.say("text", text=LONG)
        await one.until("tts-start")
        streaming = asyncio.create_task(one.stream(bytes(BYTES_PER_SECOND // 2) + question, paced=True))
        events = await one.until("cancelled")
        events = await one.until("stt-end")
        assert "capital" in events[-1]["text"].lower()
        await one.until("run-end")
        await streaming


async def test_silence_does_not_end_the_answer(daemon: RunningDaemon) -> None:
    async with peer(daemon) as one:
        await one.say("text", text=QUESTION)
        await one.until("chat-start")
        await one.stream(bytes(2 * BYTES_PER_SECOND))
        assert "cancelled" not in types(await one.until("run-end"))


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "{",
        "[]",
        '"text"',
        '{"type": "sing"}',
        '{"type": "text"}',
        '{"type": "text", "text": " "}',
        '{"type": "text", "text": 5}',
        '{"type": "text", "text": "\\ud800"}',
        '{"type": "listen", "rate": 1}',
        '{"type": "hello", "conversation_id": "\\u0000"}',
        '{"type": "hello", "language": "<b>"}',
    ],
)
async def test_a_wrong_frame_costs_an_error(daemon: RunningDaemon, frame: str) -> None:
    async with peer(daemon) as one:
        await one._connection.send(frame)
        error = await one.event()
        assert (error["type"], error["code"]) == ("error", "protocol-error")
        await one.say("hello")
        assert (await one.event())["type"] == "ready"


async def test_a_text_that_is_too_long(daemon: RunningDaemon) -> None:
    async with peer(daemon) as one:
        await one.say("text", text="x" * 20_001)
        assert (await one.event())["code"] == "chat-too-long"
        with pytest.raises(ConnectionClosed) as closed:
            await one.say("text", text="x" * 300_000)
            await one.event()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize("speaks", [False, True])
async def test_a_client_that_leaves(daemon: RunningDaemon, question: bytes, speaks: bool) -> None:
    async with peer(daemon) as one:
        if speaks:
            await one.say("listen")
            await one.stream(question[:BYTES_PER_SECOND])
            await one.until("stt-start")
        else:
            await one.say("text", text=LONG)
            await one.until("chat-delta")
        one._connection.transport.abort()
    await asyncio.to_thread(daemon.settle)
    with client(daemon) as http:
        run = http.get("/runs", params={"limit": 1}).json()["runs"][0]
    assert run["outcome"] == "cancelled"


async def test_many_questions_on_one_connection(daemon: RunningDaemon) -> None:
    async with peer(daemon) as one:
        for number in range(5):
            await one.say("text", text=f"Say the number {number}.")
        cancelled = 0
        while cancelled < 4:
            event = await one.event()
            cancelled += event["type"] == "run-end" and event["cancelled"]
        assert "cancelled" not in (await one.until("run-end"))[-1]


async def test_an_outbox_that_nobody_empties_is_full() -> None:
    outbox = Outbox(max_bytes=10, max_frames=3)
    outbox.put("text")
    outbox.put(b"sound!")
    outbox.drop()
    outbox.put(b"sound!")
    with pytest.raises(ConnectionResetError):
        outbox.put(b"!")
    async with asyncio.timeout(PATIENCE_SECONDS):
        await outbox.overflow()
    assert [frame async for frame in outbox] == []


async def test_a_client_that_does_not_read_is_cut_off(daemon: RunningDaemon) -> None:
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", daemon.port("http")))
    raw.setblocking(False)
    async with asyncio.timeout(120):
        async with connect(
            f"ws://127.0.0.1:{daemon.port('http')}/ws", sock=raw, max_queue=1, ping_interval=None, compression=None
        ) as connection:
            connection.transport.pause_reading()
            with pytest.raises((ConnectionClosed, ConnectionError)):
                while True:
                    await connection.send(json.dumps({"type": "hello", "conversation_id": "x" * 200}))
            connection.transport.abort()
    async with peer(daemon) as other:
        await other.say("text", text="What time is it?")
        assert (await other.until("chat-end"))[-1]["text"]
