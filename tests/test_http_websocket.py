"""`/ws`: text and voice, barge-in, and clients that are slow, wrong or gone."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from satellite.audio.pcm import BYTES_PER_SECOND
from satellite.http.outbox import Outbox
from tests.http_daemon import QUESTION, TIME, last_run, ws
from tests.running_daemon import RunningDaemon
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.models

CHUNK = BYTES_PER_SECOND // 25
LONG = "Tell me a long story about a ship, please. Do not stop before it has come to its end."


class Peer:
    """A client of `/ws`."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.sound = bytearray()

    async def say(self, type_: str, **data: Any) -> None:
        await self.connection.send(json.dumps({"type": type_, **data}))

    async def stream(self, pcm: bytes, *, paced: bool = False) -> None:
        """Send sound, as a microphone gives it or at once."""
        for at in range(0, len(pcm), CHUNK):
            await self.connection.send(pcm[at : at + CHUNK])
            if paced:
                await asyncio.sleep(CHUNK / BYTES_PER_SECOND)

    async def event(self) -> dict[str, Any]:
        """Return the next event, and keep the sound before it."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while isinstance(message := await self.connection.recv(), bytes):
                self.sound += message
        found: dict[str, Any] = json.loads(message)
        return found

    async def until(self, type_: str) -> list[dict[str, Any]]:
        events = [await self.event()]
        while events[-1]["type"] != type_:
            events.append(await self.event())
        return events

    async def run(self, type_: str, **data: Any) -> dict[str, dict[str, Any]]:
        """Send an event, and return the events of the run that follows, the last one of each type."""
        await self.say(type_, **data)
        return {event["type"]: event for event in await self.until("run-end")}


@asynccontextmanager
async def connected(http: httpx.Client) -> AsyncIterator[Peer]:
    async with connect(ws(http), max_size=None) as connection:
        one = Peer(connection)
        ready = await one.event()
        assert ready["type"] == "ready"
        assert ready["conversation_id"]
        yield one


@pytest.fixture
async def peer(http: httpx.Client) -> AsyncIterator[Peer]:
    async with connected(http) as one:
        yield one


async def test_text_is_answered_in_words_and_sound(peer: Peer) -> None:
    await peer.say("text", text=QUESTION)
    events = await peer.until("run-end")
    names = list({event["type"]: event for event in events})
    by_type = {event["type"]: event for event in events}
    assert names[:3] == ["run-start", "chat-start", "chat-delta"]
    assert [event["type"] for event in events[-2:]] == ["tts-end", "run-end"]
    text = "".join(event["text"] for event in events if event["type"] == "chat-delta")
    assert (by_type["chat-end"]["text"], by_type["chat-end"]["provider"]) == (text.strip(), "local")
    sound_seconds = len(peer.sound) / 2 / by_type["tts-start"]["rate"]
    assert sound_seconds == pytest.approx(by_type["tts-end"]["audio_seconds"], abs=0.01)
    assert len({event["run_id"] for event in events}) == 1


async def test_a_client_that_wants_no_sound(peer: Peer) -> None:
    await peer.say("hello", conversation_id="quiet", language="en", speak=False)
    ready = await peer.event()
    assert (ready["conversation_id"], ready["language"], ready["speak"]) == ("quiet", "en", False)
    assert "tts-start" not in await peer.run("text", text=QUESTION)
    assert not peer.sound


async def test_the_end_of_speech_is_detected_here(peer: Peer, http: httpx.Client, question: bytes) -> None:
    await peer.say("listen")
    await peer.stream(question)
    by_type = {event["type"]: event for event in await peer.until("run-end")}
    assert list(by_type)[:5] == ["run-start", "stt-start", "stt-vad-start", "stt-vad-end", "stt-end"]
    assert "capital of france" in by_type["stt-end"]["text"].lower()
    kind = {"Content-Type": f"audio/pcm; rate={by_type['tts-start']['rate']}"}
    heard = await asyncio.to_thread(http.post, "/stt", content=bytes(peer.sound), headers=kind)
    assert heard.json()["text"]


async def test_sound_at_another_rate_and_its_end(peer: Peer, question: bytes) -> None:
    speech = np.frombuffer(question, np.int16)[: -2 * BYTES_PER_SECOND // 2]
    await peer.say("listen", rate=48_000)
    await peer.stream(np.repeat(speech, 3).tobytes())
    assert "capital of france" in (await peer.run("end"))["stt-end"]["text"].lower()


async def test_silence_is_an_error_and_the_connection_goes_on(peer: Peer) -> None:
    await peer.say("listen")
    await peer.stream(bytes(6 * BYTES_PER_SECOND))
    events = await peer.until("run-end")
    assert events[-2]["code"] == "stt-no-speech"
    assert (await peer.run("text", **TIME))["chat-end"]["provider"] == "commands"


async def test_cancel(peer: Peer) -> None:
    await peer.say("text", text=LONG)
    run_id = (await peer.until("chat-delta"))[-1]["run_id"]
    await peer.say("cancel")
    assert (await peer.until("cancelled"))[-1] == {"type": "cancelled", "run_id": run_id}
    assert await peer.event() == {"type": "run-end", "run_id": run_id, "cancelled": True}
    before = len(peer.sound)
    await peer.say("hello")
    await peer.until("ready")
    assert len(peer.sound) == before


async def test_what_is_over_is_not_cancelled(peer: Peer, question: bytes) -> None:
    for _ in range(2):
        events = await peer.run("text", **TIME)
        assert next(iter(events)) == "run-start"
        assert "cancelled" not in events
        assert len({event["run_id"] for event in events.values()}) == 1
    await peer.say("cancel")
    await peer.say("listen")
    await peer.stream(question)
    events = await peer.run("end")
    assert list(events)[:2] == ["run-start", "stt-start"]
    assert "cancelled" not in events


@pytest.mark.parametrize("path", ["/v1/realtime", "/ws/", "/"])
async def test_there_is_no_other_websocket(daemon: RunningDaemon, path: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://127.0.0.1:{daemon.port('http')}{path}")
    assert refused.value.response.status_code == 404
    body = json.loads(refused.value.response.body)
    assert (body["code"], body["detail"]) == (
        "http-not-found",
        f"there is no WebSocket at {path}, only at /ws and /room/ws",
    )
    assert ("error" in body) is path.startswith("/v1/")


async def test_speaking_interrupts_the_answer(peer: Peer, question: bytes) -> None:
    await peer.say("text", text=LONG)
    await peer.until("tts-start")
    streaming = asyncio.create_task(peer.stream(bytes(BYTES_PER_SECOND // 2) + question, paced=True))
    await peer.until("cancelled")
    assert "capital" in (await peer.until("stt-end"))[-1]["text"].lower()
    await peer.until("run-end")
    await streaming


async def test_silence_does_not_end_the_answer(peer: Peer) -> None:
    await peer.say("text", text=QUESTION)
    await peer.until("chat-start")
    await peer.stream(bytes(2 * BYTES_PER_SECOND))
    assert "cancelled" not in {event["type"] for event in await peer.until("run-end")}


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
async def test_a_wrong_frame_costs_an_error(peer: Peer, frame: str) -> None:
    await peer.connection.send(frame)
    error = await peer.event()
    assert (error["type"], error["code"]) == ("error", "protocol-error")
    await peer.say("hello")
    assert (await peer.event())["type"] == "ready"


async def test_a_text_that_is_too_long(peer: Peer) -> None:
    await peer.say("text", text="x" * 20_001)
    assert (await peer.event())["code"] == "chat-too-long"
    with pytest.raises(ConnectionClosed) as closed:
        await peer.say("text", text="x" * 300_000)
        await peer.event()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize("speaks", [False, True])
async def test_a_client_that_leaves(
    daemon: RunningDaemon, http: httpx.Client, peer: Peer, question: bytes, speaks: bool
) -> None:
    if speaks:
        await peer.say("listen")
        await peer.stream(question[:BYTES_PER_SECOND])
        await peer.until("stt-start")
    else:
        await peer.say("text", text=LONG)
        await peer.until("chat-delta")
    peer.connection.transport.abort()
    await asyncio.to_thread(daemon.settle)
    assert last_run(http)["outcome"] == "cancelled"


async def test_many_questions_on_one_connection(peer: Peer) -> None:
    for number in range(5):
        await peer.say("text", text=f"Say the number {number}.")
    cancelled = 0
    while cancelled < 4:
        event = await peer.event()
        cancelled += event["type"] == "run-end" and event["cancelled"]
    assert "cancelled" not in (await peer.until("run-end"))[-1]


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


async def test_a_client_that_does_not_read_is_cut_off(daemon: RunningDaemon, http: httpx.Client) -> None:
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", daemon.port("http")))
    raw.setblocking(False)
    async with asyncio.timeout(120):
        async with connect(ws(http), sock=raw, max_queue=1, ping_interval=None, compression=None) as connection:
            connection.transport.pause_reading()
            with pytest.raises((ConnectionClosed, ConnectionError)):
                while True:
                    await connection.send(json.dumps({"type": "hello", "conversation_id": "x" * 200}))
            connection.transport.abort()
    async with connected(http) as other:
        assert (await other.run("text", **TIME))["chat-end"]["text"]
