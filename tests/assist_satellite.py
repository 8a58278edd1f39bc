"""A server that drives a satellite as Home Assistant 2026.11 does (its components/wyoming/assist_satellite.py)."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Self

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event, Eventable
from wyoming.info import Describe
from wyoming.ping import Ping, Pong
from wyoming.pipeline import RunPipeline
from wyoming.satellite import PauseSatellite, RunSatellite
from wyoming.tts import Synthesize
from wyoming.vad import VoiceStarted, VoiceStopped

from satellite.audio.pcm import BYTES_PER_SECOND, AudioFormat
from satellite.engines.protocols import VoiceChoice
from satellite.tasks import end_tasks
from tests.running_daemon import RunningDaemon
from tests.waiting import until

_PING_TIMEOUT = 5
_PING_SEND_DELAY = 2
_AUDIO_CHUNK_BYTES = 2048
_COMMAND_BYTES = 4 * BYTES_PER_SECOND
"""A command of a few words and the pauses around it."""

ANSWER = "Home Assistant says that it is Paris."


class Assist:
    """One connection to a satellite, and the pipelines that it asks for; the engines are those of `daemon`."""

    def __init__(self, port: int, daemon: RunningDaemon, *, forgets: bool = False) -> None:
        """With `forgets` no run that is asked for ever ends."""
        self.events: list[Event] = []
        """All but audio and pings; `heard` is our own, with what was understood."""

        self.heard_bytes = 0
        self.broke: BaseException | None = None
        self._stages = daemon.daemon._stages
        self._forgets = forgets
        self._client = AsyncTcpClient("127.0.0.1", port)
        self._audio: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = False

    async def __aenter__(self) -> Self:
        await self._client.connect()
        self.unmute()
        return self

    async def __aexit__(self, *_: object) -> None:
        await end_tasks(*self._tasks)
        with suppress(OSError):
            await self.send(PauseSatellite())
            await self._client.disconnect()

    @property
    def kinds(self) -> list[str]:
        """The types of the events, but for `info`."""
        return [event.type for event in self.events if event.type != "info"]

    async def until(self, type_: str, count: int = 1) -> Event:
        """Wait until so many events of a type have come; return the last of them."""
        await until(lambda: self.broke or len(self._all(type_)) >= count)
        assert len(self._all(type_)) >= count, f"came: {self.kinds}; {self.broke!r}"
        return self._all(type_)[count - 1]

    async def send(self, *events: Event | Eventable) -> None:
        for event in events:
            await self._client.write_event(event if isinstance(event, Event) else event.event())

    async def say(self, text: str) -> None:
        """Stream an answer, or an announcement, as fast as it is made."""
        speaker = await self._stages.speaker(VoiceChoice())
        await self.stream(speaker.format, b"".join([pcm async for pcm in speaker.speak(text)]))

    async def stream(self, layout: AudioFormat, pcm: bytes) -> None:
        shape = {"rate": layout.rate, "width": layout.width, "channels": layout.channels}
        await self.send(AudioStart(**shape))
        for at in range(0, len(pcm), _AUDIO_CHUNK_BYTES):
            await self.send(AudioChunk(audio=pcm[at : at + _AUDIO_CHUNK_BYTES], **shape))
        await self.send(AudioStop())

    async def mute(self) -> None:
        """Pause the satellite; Home Assistant then neither reads nor pings."""
        self.fall_silent()
        await self.send(PauseSatellite())

    def unmute(self) -> None:
        """Drive it, over the same connection."""
        self._own(self._drive())

    def fall_silent(self) -> None:
        """Die without a word: the connection stays."""
        for task in list(self._tasks):
            task.cancel()

    def vanish(self) -> None:
        assert self._client._writer is not None
        self.fall_silent()
        self._client._writer.transport.abort()

    def _all(self, type_: str) -> list[Event]:
        return [event for event in self.events if event.type == type_]

    async def _drive(self) -> None:
        try:
            await self.send(RunSatellite(), Describe())
            self._own(self._ping())
            while True:
                async with asyncio.timeout(_PING_TIMEOUT):
                    event = await self._client.read_event()
                if event is None:
                    raise ConnectionResetError("Satellite disconnected")
                await self._take(event)
        except (OSError, TimeoutError) as error:
            self.broke = error

    async def _take(self, event: Event) -> None:
        match event.type:
            case "pong":
                self._own(self._ping())
            case "ping":
                await self.send(Pong(text=Ping.from_event(event).text))
            case "audio-chunk":
                if self._running:
                    chunk = AudioChunk.from_event(event)
                    assert (chunk.rate, chunk.width, chunk.channels) == (16_000, 2, 1)
                    self.heard_bytes += len(chunk.audio)
                    self._audio.put_nowait(chunk.audio)
            case _:
                self.events.append(event)
                if event.type == "audio-stop":
                    self._audio.put_nowait(None)
                elif event.type == "run-pipeline":
                    RunPipeline.from_event(event)
                    self._audio, self._running = asyncio.Queue(), True
                    if not self._forgets:
                        self._own(self._pipeline())

    async def _pipeline(self) -> None:
        await self.send(Transcribe(language="en"))
        pcm = b""
        while len(pcm) < _COMMAND_BYTES and (piece := await self._audio.get()) is not None:
            pcm += piece
        self._running = False
        await self.send(VoiceStarted(timestamp=0), VoiceStopped(timestamp=0))
        if not (text := (await self._stages.transcribe_pcm(pcm)).text):
            await self.send(Error(text="No text recognized", code="stt-no-text-recognized"))
            return
        self.events.append(Event("heard", {"text": text}))
        await self.send(Transcript(text=text), Synthesize(text=ANSWER))
        await self.say(ANSWER)

    async def _ping(self) -> None:
        await asyncio.sleep(_PING_SEND_DELAY)
        with suppress(OSError):
            await self.send(Ping())

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
