"""The double of an ESPHome device, driven by the library that Home Assistant drives real ones with."""

import asyncio
import base64
import hashlib
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import av
import numpy as np
import pytest
from aioesphomeapi.client import APIClient
from aioesphomeapi.core import ZERO_NOISE_PSK, APIConnectionError, InvalidEncryptionKeyAPIError
from aioesphomeapi.model import (
    MediaPlayerCommand,
    MediaPlayerInfo,
    VoiceAssistantEventType,
    VoiceAssistantExternalWakeWord,
    VoiceAssistantTimerEventType,
)
from aioesphomeapi.outgoing_connection import OutgoingConnectionServer
from aioesphomeapi.reconnect_logic import ReconnectLogic
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from satellite.audio.pcm import RATE
from tests.doubles.esphome import EsphomeDevice
from tests.doubles.esphome_assistant import State
from tests.doubles.esphome_wire import NO_KEY
from tests.waiting import until

KEY = bytes(range(32))
TONE = (8000 * np.sin(np.arange(RATE) * 0.3)).astype(np.int16).tobytes()
"""One second."""

pytestmark = pytest.mark.virtual_clock


def flac(pcm: bytes, rate: int = 48_000) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", "flac") as container:
        stream = container.add_stream("flac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, np.int16).reshape(1, -1), "s16", "mono")
        frame.sample_rate = rate
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def wav(pcm: bytes, rate: int = 22_050) -> bytes:
    """Return a WAV of unknown length, as it is streamed."""
    endless = b"\xff" * 4
    head = (1).to_bytes(2, "little") * 2 + rate.to_bytes(4, "little") + (2 * rate).to_bytes(4, "little")
    return b"RIFF" + endless + b"WAVEfmt \x10\0\0\0" + head + b"\2\0\x10\0data" + endless + pcm


@asynccontextmanager
async def files(parts: dict[str, list[bytes | float]]) -> AsyncIterator[tuple[Callable[[str], str], list[str]]]:
    """Serve `parts` of files in chunks, with pauses of as many seconds between them; list who asked for what."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode().lstrip("/")
        asked.append(f"{writer.get_extra_info('peername')[0]} {path}")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in parts[path]:
            if isinstance(part, float):
                await asyncio.sleep(part)
            else:
                writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        writer.write(b"0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield lambda path: f"http://127.0.0.1:{port}/{path}", asked


def client_of(device: EsphomeDevice, key: bytes | None = None) -> APIClient:
    psk = None if key is None else base64.b64encode(key).decode()
    return APIClient(device.host, device.port, None, noise_psk=psk, client_info="test")


class Server:
    """A server of the device's voice assistant."""

    def __init__(self, client: APIClient) -> None:
        self.client = client
        self.starts: list[tuple[str, int, str | None]] = []
        self.audio: list[tuple[bytes, bytes | None]] = []
        self.stops = 0
        self.finished: list[bool] = []
        self.accepts = True
        client.subscribe_voice_assistant(
            handle_start=self._start,
            handle_stop=self._stop,
            handle_audio=self._audio,
            handle_announcement_finished=self._finished,
        )

    async def _start(self, conversation: str, flags: int, _: Any, phrase: str | None) -> int | None:
        self.starts.append((conversation, flags, phrase))
        return 0 if self.accepts else None

    async def _stop(self, abort: bool) -> None:
        self.stops += 1

    async def _audio(self, data: bytes, data2: bytes | None) -> None:
        self.audio.append((data, data2))

    async def _finished(self, message: Any) -> None:
        self.finished.append(message.success)

    def tell(self, *events: str, **data: str) -> None:
        """Send events; the last one with `data`."""
        for event in events:
            kind = VoiceAssistantEventType[f"VOICE_ASSISTANT_{event}"]
            self.client.send_voice_assistant_event(kind, data if event == events[-1] else None)

    def answer(self, url: str, again: bool = False) -> None:
        """Answer as Home Assistant does, from the end of the command on."""
        self.tell("STT_VAD_END")
        self.tell("STT_END", text="What time is it?")
        self.tell("INTENT_START", "INTENT_PROGRESS", tts_start_streaming="1")
        self.tell("INTENT_END", conversation_id="one", continue_conversation=str(int(again)))
        self.tell("TTS_START", text="Noon.")
        self.tell("TTS_END", url=url)
        self.tell("RUN_END")


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[tuple[EsphomeDevice, Server]]:
    async with EsphomeDevice(**settings) as device:
        client = client_of(device, device.key)
        await client.connect(login=True)
        try:
            server = Server(client)
            await until(lambda: device.claimed)
            yield device, server
        finally:
            await client.disconnect(force=True)


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "noise"])
@pytest.mark.parametrize("file", [flac(TONE * 3), wav(TONE)], ids=["flac", "wav"])
async def test_a_turn_with_a_follow_up(key: bytes | None, file: bytes) -> None:
    async with files({"answer": [file]}) as (url, asked), served(key=key) as (device, server):
        assert await device.wake()
        saying = asyncio.create_task(device.say(TONE))
        await until(lambda: len(server.audio) > 20)
        assert server.starts == [("", 3, "Okay Nabu")]
        assert {(len(data), data2) for data, data2 in server.audio} == {(1024, b"")}
        assert TONE[:2048] in b"".join(data for data, _ in server.audio)
        server.tell("RUN_START", url=url("answer"))
        server.answer(url("answer"), again=True)
        await device.until("RUN_END")
        assert (device.state, device.streaming) == (State.STREAMING_RESPONSE, False)
        await saying
        await until(lambda: len(server.starts) == 2)
        (heard,) = device.heard
        assert bytes(heard.pcm) in (TONE, TONE * 3)
        assert (heard.trouble, heard.gap_seconds) == ("", 0)
        assert (asked, server.finished) == (["127.0.0.1 answer"], [True])
        assert server.starts[1] == ("one", 1, "Okay Nabu")
        await until(lambda: device.streaming)
        server.tell("ERROR", code="stt-no-text-recognized", message="")
        await until(lambda: device.state is State.IDLE)
        assert (server.stops, device.assistant.overheard_seconds) == (1, 0)


@pytest.mark.parametrize(("silence", "overheard"), [(True, False), (False, True)])
async def test_an_answer_that_keeps_silent_for_two_seconds_is_heard_by_its_own_microphone(
    silence: bool, overheard: bool
) -> None:
    quiet = bytes(2 * 22_050)
    late: list[bytes | float] = [wav(b""), quiet, 1.0, quiet, 1.0, quiet, 1.0] if silence else [wav(b""), 3.0]
    async with files({"answer": [*late, TONE * 3]}) as (url, _), served() as (device, server):
        await device.wake()
        await until(lambda: device.streaming)
        server.tell("RUN_START", url=url("answer"))
        server.answer(url("answer"), again=True)
        await until(lambda: len(server.starts) == 2)
        await asyncio.sleep(3)
        assert (device.assistant.overheard_seconds > 0) is overheard


async def test_a_run_that_ends_after_its_answer_was_heard_closes_the_microphone_of_the_follow_up() -> None:
    async with files({"answer": [wav(TONE)]}) as (url, _), served() as (device, server):
        await device.wake()
        await until(lambda: device.streaming)
        server.tell("RUN_START", url=url("answer"))
        server.tell("STT_VAD_END", "INTENT_PROGRESS", tts_start_streaming="1")
        server.tell("INTENT_END", continue_conversation="1")
        await until(lambda: device.assistant.streams == 2)
        server.tell("RUN_END")
        await until(lambda: device.state is State.IDLE)


async def test_it_has_one_server_and_says_nothing_to_another() -> None:
    async with served() as (device, server), EsphomeDevice(owned=True) as other:
        for owned in (device, other):
            client = client_of(owned)
            await client.connect(login=True)
            second = Server(client)
            configuration = await client.get_voice_assistant_configuration(10)
            assert (configuration.available_wake_words, configuration.max_active_wake_words) == ([], 0)
            second.tell("RUN_START", url="http://127.0.0.1/")
            await client.device_info()
            await client.disconnect()
        assert (await server.client.get_voice_assistant_configuration(10)).active_wake_words == ["okay_nabu"]
        assert not await other.wake()
        await device.wake()
        await until(lambda: device.streaming)


async def test_a_server_that_cannot_start_and_one_that_is_lost() -> None:
    async with served() as (device, server):
        server.accepts = False
        await device.wake()
        await until(lambda: device.state is State.IDLE)
        server.accepts = True
        await device.press()
        await until(lambda: device.streaming)
        assert server.starts[-1][2] is None
        await server.client.disconnect(force=True)
        await until(lambda: device.state is State.IDLE)
        assert not device.claimed
        assert not await device.wake()


async def test_a_wake_word_ends_what_sounds() -> None:
    async with files({"long": [wav(TONE * 60)]}) as (url, _), served() as (device, server):
        await device.wake()
        await until(lambda: device.streaming)
        server.tell("RUN_START", url=url("long"))
        server.answer(url("long"))
        await until(lambda: device.heard and device.heard[0].started_at)
        assert not await device.wake()
        await until(lambda: device.state is State.IDLE)
        assert device.heard[0].ended_at
        server.client.send_voice_assistant_timer_event(
            VoiceAssistantTimerEventType.VOICE_ASSISTANT_TIMER_FINISHED, "1", "tea", 60, 0, False
        )
        await until(lambda: device.ringing)
        assert not await device.wake()
        assert await device.wake()


@pytest.mark.parametrize("success", [True, False])
async def test_announcements(success: bool) -> None:
    parts: dict[str, list[bytes | float]] = {"chime": [flac(TONE)], "text": [wav(TONE)]}
    async with files(parts) as (url, asked), served(announce_success=success) as (device, server):
        finished = await server.client.send_voice_assistant_announcement_await_response(
            url("text"), 30, "Dinner.", url("chime"), start_conversation=True
        )
        assert finished.success is success
        assert asked == ["127.0.0.1 chime", "127.0.0.1 text"]
        await until(lambda: device.streaming)
        device.assistant.stop()


@pytest.mark.parametrize(("pause", "lost"), [(0.0, True), (1 / 16, False)])
async def test_a_bare_speaker_loses_what_its_buffer_does_not_hold(pause: float, lost: bool) -> None:
    async with served(output="speaker") as (device, server):
        await device.wake()
        await until(lambda: device.streaming)
        server.tell("RUN_START", "STT_VAD_END", "TTS_START", text="Noon.")
        await until(lambda: device.state is State.AWAITING_RESPONSE)
        server.tell("TTS_END", url="-")
        server.tell("TTS_STREAM_START")
        for first in range(0, len(TONE), 2048):
            server.client.send_voice_assistant_audio(TONE[first : first + 2048])
            await asyncio.sleep(pause)
        server.tell("TTS_STREAM_END", "RUN_END")
        await until(lambda: device.state is State.IDLE)
        assert (device.assistant.speaker.lost_bytes > 0, bytes(device.heard[0].pcm) == TONE) == (lost, not lost)
        server.client.send_voice_assistant_audio(TONE[:1024])
        await until(lambda: device.assistant.speaker.lost_bytes % 2048)


async def test_entities_and_media() -> None:
    async with (
        files({"music": [flac(TONE * 30)]}) as (url, asked),
        served(fetches_from="127.0.0.9", fetches=2) as (device, server),
    ):
        entities, _ = await server.client.list_entities_services()
        assert {entity.object_id for entity in entities} >= {"media_player", "mute", "led_ring", "restart"}
        (player,) = [entity for entity in entities if isinstance(entity, MediaPlayerInfo)]
        formats = [
            (each.format, each.sample_rate, each.num_channels, each.purpose) for each in player.supported_formats
        ]
        assert formats == [("flac", 48_000, 2, 0), ("flac", 48_000, 1, 1)]
        states: dict[int, Any] = {}
        server.client.subscribe_states(lambda state: states.update({state.key: state}))
        server.client.media_player_command(player.key, volume=0.25, media_url=url("music"))
        await until(lambda: player.key in states and states[player.key].state.name == "PLAYING")
        assert (asked, states[player.key].volume) == (["127.0.0.9 music"] * 2, 0.25)
        server.client.media_player_command(player.key, command=MediaPlayerCommand.STOP)
        await until(lambda: states[player.key].state.name == "IDLE")
        (mute,) = [entity for entity in entities if entity.object_id == "mute"]
        server.client.switch_command(mute.key, True)
        await until(lambda: states[mute.key].state)
        assert not await device.wake()


async def test_wake_words_are_chosen_and_downloaded() -> None:
    model = b"model"
    parts: dict[str, list[bytes | float]] = {
        "computer.json": [json.dumps({"type": "micro"}).encode()],
        "computer.tflite": [model],
    }
    async with files(parts) as (url, _), served(takes_wake_words=True, most_active_wake_words=2) as (device, server):
        good, bad = hashlib.sha256(model).hexdigest(), "0"
        for digest in (bad, good):
            offer: dict[str, Any] = {
                "id": "computer",
                "wake_word": "Computer",
                "model_type": "micro",
                "trained_languages": ["en"],
            }
            offer |= {"model_size": len(model), "model_hash": digest, "url": url("computer.json")}
            configuration = await server.client.get_voice_assistant_configuration(
                10, [VoiceAssistantExternalWakeWord.from_dict(offer)]
            )
            assert [word.id for word in configuration.available_wake_words] == ["okay_nabu", "hey_jarvis", "computer"]
            await server.client.set_voice_assistant_configuration(["computer", "hey_jarvis"])
            await until(lambda: "hey_jarvis" in device.active_wake_words)
            assert ("computer" in device.active_wake_words) is (digest == good)
            device.active_wake_words = []


async def test_a_device_without_a_key_gets_one() -> None:
    async with EsphomeDevice(key=NO_KEY) as device:
        client = client_of(device, NO_KEY)
        await client.connect(login=True)
        assert (await client.device_info()).api_encryption_provisionable
        assert not await client.noise_encryption_set_key(ZERO_NOISE_PSK.encode())
        assert await client.noise_encryption_set_key(base64.b64encode(KEY))
        await until(lambda: device.key == KEY)
        for key in (None, NO_KEY):
            error = APIConnectionError if key is None else InvalidEncryptionKeyAPIError
            with pytest.raises(error):
                await client_of(device, key).connect(login=True)
        await client_of(device, KEY).connect(login=True)
        with pytest.raises(APIConnectionError):
            await client_of(device, NO_KEY).connect(login=True)


async def test_it_dials_a_server() -> None:
    async with EsphomeDevice(key=KEY) as device:
        await device.stop()
        client, connected = client_of(device, KEY), asyncio.Event()

        async def on_connect() -> None:
            connected.set()

        async def on_disconnect(_: bool) -> None:
            pass

        reconnecting = ReconnectLogic(client=client, on_connect=on_connect, on_disconnect=on_disconnect, name="kitchen")
        await reconnecting.start()
        server = OutgoingConnectionServer(0, "127.0.0.1")
        forget = server.register(device.mac, reconnecting)
        dialling = asyncio.create_task(device.dial(server.port))
        await connected.wait()
        Server(client)
        await until(lambda: device.claimed)
        forget()
        await reconnecting.stop()
        await client.disconnect()
        await dialling


async def test_it_is_found() -> None:
    async with EsphomeDevice(key=NO_KEY) as device:
        ours, theirs = AsyncZeroconf(interfaces=["127.0.0.1"]), AsyncZeroconf(interfaces=["127.0.0.1"])
        try:
            await (await ours.async_register_service(device.service()))
            found = AsyncServiceInfo("_esphomelib._tcp.local.", device.service().name)
            assert await found.async_request(theirs.zeroconf, 10_000)
            assert (found.port, found.parsed_addresses()) == (device.port, ["127.0.0.1"])
            assert found.decoded_properties["api_provisioning"] == "zero-psk"
        finally:
            await ours.async_close()
            await theirs.async_close()


async def test_it_misbehaves() -> None:
    async with served() as (device, server):
        device.send_unasked_audio(3)
        await until(lambda: len(server.audio) == 3)
        device.send_garbage()
        await until(lambda: not device.claimed)
        device.hangs_after_connect = True
        with pytest.raises(APIConnectionError):
            await client_of(device).connect(login=True)
        device.hangs_after_connect, device.host = False, "127.0.0.2"
        await device.reboot()
        client = client_of(device)
        await client.connect(login=True)
        device.vanish()
        await until(lambda: not client._connection)
