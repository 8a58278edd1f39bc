"""A server that drives a satellite as Home Assistant 2026.11 does (its components/wyoming/assist_satellite.py)."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Self

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event, Eventable
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.pipeline import RunPipeline
from wyoming.satellite import PauseSatellite, RunSatellite
from wyoming.tts import Synthesize
from wyoming.vad import VoiceStarted, VoiceStopped

from satellite.audio.pcm import AudioFormat
from satellite.config.settings import EndpointSettings
from satellite.engines.protocols import VoiceChoice
from satellite.pipeline.recording import CommandRecording
from satellite.pipeline.turn_detection import TurnDetector, TurnState
from tests.running_daemon import RunningDaemon
from tests.waiting import PATIENCE_SECONDS

_PING_TIMEOUT = 5
_PING_SEND_DELAY = 2
_AUDIO_CHUNK_BYTES = 2048

ANSWER = "Home Assistant says that it is Paris."


class Assist:
    """One connection to a satellite, and the pipelines that it asks for; the engines are those of `daemon`."""

    def __init__(self, port: int, daemon: RunningDaemon, *, forgets: bool = False) -> None:
        """With `forgets` no run that is asked for ever ends."""
        self.events: list[Event] = []
        """All but audio and pings."""

        self.info: Info | None = None
        self.heard_bytes = 0
        self.played = 0
        self.broke: BaseException | None = None
        self._stages = daemon.daemon._stages
        self._forgets = forgets
        self._client = AsyncTcpClient("127.0.0.1", port)
        self._audio: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = False
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._client.connect()
        self._own(self._drive())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(OSError):
            await self.send(PauseSatellite())
            await self._client.disconnect()

    async def until(self, condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until something holds."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise TimeoutError(f"came: {[event.type for event in self.events]}; {self.broke!r}") from None

    def came(self, type_: str) -> int:
        """Return how many events of a type have come."""
        return sum(event.type == type_ for event in self.events)

    async def send(self, *events: Eventable) -> None:
        """Send events."""
        for event in events:
            await self._client.write_event(event.event())

    async def say(self, text: str) -> None:
        """Stream an answer, or an announcement, as fast as it is made."""
        speaker = await self._stages.speaker(VoiceChoice())
        pcm = b"".join([pcm async for pcm in speaker.speak(text)])
        await self.stream(speaker.format, pcm)

    async def stream(self, layout: AudioFormat, pcm: bytes) -> None:
        """Send sound without any pace."""
        shape = {"rate": layout.rate, "width": layout.width, "channels": layout.channels}
        await self.send(AudioStart(**shape))
        for at in range(0, len(pcm), _AUDIO_CHUNK_BYTES):
            await self.send(AudioChunk(audio=pcm[at : at + _AUDIO_CHUNK_BYTES], **shape))
        await self.send(AudioStop())

    async def mute(self) -> None:
        """Pause the satellite; Home Assistant then neither reads nor pings."""
        self._cancel()
        await self.send(PauseSatellite())

    async def unmute(self) -> None:
        """Drive it again, over the same connection."""
        self._own(self._drive())

    def fall_silent(self) -> None:
        """Die without a word: the connection stays."""
        self._cancel()

    def vanish(self) -> None:
        """Break off."""
        assert self._client._writer is not None
        self._cancel()
        self._client._writer.transport.abort()

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
            self._news.set()

    async def _take(self, event: Event) -> None:
        if Pong.is_type(event.type):
            self._own(self._ping())
            return
        if Ping.is_type(event.type):
            await self.send(Pong(text=Ping.from_event(event).text))
            return
        if AudioChunk.is_type(event.type):
            if self._running:
                chunk = AudioChunk.from_event(event)
                assert (chunk.rate, chunk.width, chunk.channels) == (16_000, 2, 1)
                self.heard_bytes += len(chunk.audio)
                self._audio.put_nowait(chunk.audio)
        else:
            self.events.append(event)
            if Info.is_type(event.type):
                self.info = Info.from_event(event)
            elif RunPipeline.is_type(event.type):
                RunPipeline.from_event(event)
                self._audio, self._running = asyncio.Queue(), True
                if not self._forgets:
                    self._own(self._pipeline())
            elif event.type == "played":
                self.played += 1
            elif event.type == "audio-stop":
                self._audio.put_nowait(None)
        self._news.set()

    async def _pipeline(self) -> None:
        await self.send(Transcribe(language="en"))
        vad = self._stages.engines.vad.engine
        recorder = CommandRecording(
            vad, TurnDetector(EndpointSettings()), threshold=0.5, max_seconds=15, after_wake_word=True
        )
        state = None
        while (pcm := await self._audio.get()) is not None:
            await recorder.feed(pcm)
            before, state = state, recorder.state
            if state is TurnState.SPEAKING and before is not TurnState.SPEAKING:
                await self.send(VoiceStarted(timestamp=0))
            if state in (TurnState.ENDED, TurnState.NO_SPEECH):
                break
        self._running = False
        if state is not TurnState.ENDED:
            await self.send(Error(text="No text recognized", code="stt-no-text-recognized"))
            return
        text = (await self._stages.transcribe(recorder)).text
        self.events.append(Event("heard", {"text": text}))
        await self.send(VoiceStopped(timestamp=0), Transcript(text=text), Synthesize(text=ANSWER))
        await self.say(ANSWER)

    async def _ping(self) -> None:
        await asyncio.sleep(_PING_SEND_DELAY)
        with suppress(OSError):
            await self.send(Ping())

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _cancel(self) -> None:
        for task in list(self._tasks):
            task.cancel()
