"""The parts of a scripted satellite: its microphone, its speaker, and when it streams in each of its three modes."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from wyoming.audio import AudioChunk, AudioStop
from wyoming.event import Event
from wyoming.wake import Detection

from satellite.audio.pcm import BYTES_PER_SECOND, CANONICAL, RATE, AudioFormat, Converter

_ROOM_TONE = np.random.default_rng(0).normal(0, 8, RATE).astype(np.int16).tobytes()
_LOUD = 1000
_PIPER = AudioFormat(22050)


@dataclass(eq=False, kw_only=True)
class Settings:
    """What a satellite is, and what is wrong with it; all but the formats may change while it runs."""

    mode: Literal["wake", "always", "vad"] = "wake"
    """Streams after a local wake word, all the time, or when somebody speaks."""

    name: str = "kitchen"
    vad_timeout_seconds: float = 5.0
    """How long one stream of a `vad` satellite is at most; the server's `detection` does not lengthen it."""

    microphone_format: AudioFormat = CANONICAL
    samples_per_chunk: int = 1024
    has_speaker: bool = True
    speaker_format: AudioFormat = _PIPER
    """What `run-pipeline` asks for."""

    send_run_pipeline: bool = True
    """False: announces nothing but the bare `detection`, and in the other modes nothing at all."""

    silent_microphone: bool = False
    """Announces audio that never comes."""

    never_stops_streaming: bool = False
    """Takes no notice of `transcript` and `error`."""


def encoded(pcm: bytes, target: AudioFormat) -> bytes:
    converter = Converter(CANONICAL, target)
    return converter.convert(pcm) + converter.flush()


class Microphone:
    """Records what is said, and room tone while nobody speaks, a chunk at a time."""

    def __init__(self, settings: Settings) -> None:
        self._format = settings.microphone_format
        self._settings = settings
        self._speech = bytearray()
        self._said = asyncio.Event()
        self.hear_room(_ROOM_TONE)

    @property
    def chunk_seconds(self) -> float:
        return self._settings.samples_per_chunk / self._format.rate

    def hear_room(self, pcm: bytes) -> None:
        """Record such room tone from now on, over and over."""
        self._tone = encoded(pcm, self._format)
        self._tone_at = 0

    async def say(self, pcm: bytes) -> None:
        """Speak canonical `pcm`; returns when it is recorded. Cancelling it ends the speech."""
        self._speech += encoded(pcm, self._format)
        self._said.clear()
        try:
            await self._said.wait()
        finally:
            self._speech.clear()

    def record(self) -> AudioChunk:
        size = self._settings.samples_per_chunk * self._format.frame_bytes
        sound = self._speech[:size]
        del self._speech[:size]
        if not self._speech:
            self._said.set()
        while missing := size - len(sound):
            tone = self._tone[self._tone_at :][:missing]
            self._tone_at = (self._tone_at + len(tone)) % len(self._tone)
            sound += tone
        # Nanoseconds, although the protocol says milliseconds: that is what the library's microphone sends.
        return AudioChunk(**asdict(self._format), audio=bytes(sound), timestamp=time.monotonic_ns())


@dataclass(eq=False)
class Utterance:
    """Sound that the server started and stopped; times are `time.monotonic`'s."""

    ends_at: float
    """When all that has come so far will have been heard."""

    stopped_at: float | None = None
    formats: list[AudioFormat] = field(default_factory=list)
    """Each once; more than one is a fault of the server."""

    pcm: bytearray = field(default_factory=bytearray)


class Speaker:
    """Plays one utterance after another, as `aplay` from a pipe: a stop ends what is sent, not what is played."""

    def __init__(self) -> None:
        self.utterances: deque[Utterance] = deque(maxlen=200)
        self._current: Utterance | None = None
        self._stopped: asyncio.Queue[Utterance] = asyncio.Queue()
        self._free_at = 0.0

    def take(self, event: Event) -> None:
        """Take `audio-start`, `audio-chunk` or `audio-stop`."""
        now = time.monotonic()
        if self._current is None:
            self._current = Utterance(max(now, self._free_at))
            self.utterances.append(self._current)
        if event.type == "audio-stop":
            self._current.stopped_at = now
            self._stopped.put_nowait(self._current)
            self._current = None
            return
        layout = AudioFormat(event.data["rate"], event.data["width"], event.data["channels"])
        if layout not in self._current.formats:
            self._current.formats.append(layout)
        if event.type == "audio-chunk":
            chunk = AudioChunk.from_event(event)
            self._current.pcm += chunk.audio
            self._current.ends_at = self._free_at = max(now, self._free_at) + chunk.seconds

    async def next_played(self) -> None:
        utterance = await self._stopped.get()
        await asyncio.sleep(utterance.ends_at - time.monotonic())

    def cut(self) -> None:
        """Lose the power; nobody may be waiting in `next_played`."""
        self._current, self._free_at, self._stopped = None, 0.0, asyncio.Queue()


class Listening:
    """Decides, by the satellite's mode, when what is heard goes to the server."""

    def __init__(self, settings: Settings, send: Callable[[Event], Awaitable[None]]) -> None:
        self.streaming_since: float | None = None
        """Since when what is heard goes to the server, if there is one."""

        self._settings = settings
        self._send = send
        self._paused = False
        self._before = b""

    async def from_server(self, event: Event) -> None:
        mode = self._settings.mode
        if event.type == "run-satellite":
            self._paused = False
            if mode == "always":
                self._stream(True)
                await self._run_pipeline("wake", restart=True)
            elif mode == "wake":
                self._stream(False)
        elif event.type == "pause-satellite":
            self._paused = True
            self._stream(False)
        elif event.type in ("transcript", "error") and mode != "always" and not self._settings.never_stops_streaming:
            self._stream(False)

    def server_gone(self) -> None:
        if self._settings.mode == "wake":
            self._stream(False)

    async def hear(self, chunk: AudioChunk) -> None:
        if self._paused:
            return
        if self._settings.mode == "vad":
            await self._wait_for_speech(chunk)
        if self.streaming_since is not None:
            await self._send_audio(chunk)

    async def detect(self) -> bool:
        """Detect a wake word; False while paused or streaming, when it is not noticed."""
        if self._paused or self.streaming_since is not None:
            return False
        self._stream(True)
        await self._send(Detection("okay_nabu", timestamp=time.monotonic_ns()).event())
        await self._run_pipeline("asr", name="Ground floor")
        return True

    async def _wait_for_speech(self, chunk: AudioChunk) -> None:
        if self.streaming_since is not None:
            if time.monotonic() - self.streaming_since < self._settings.vad_timeout_seconds:
                return
            self._stream(False)
            await self._send(AudioStop().event())
        # As there, any audio is taken for 16-bit samples at 16 kHz.
        if np.abs(np.frombuffer(chunk.audio, np.int16).astype(np.int32)).max() < _LOUD:
            self._before = (self._before + chunk.audio)[-2 * BYTES_PER_SECOND :]
            return
        self._stream(True)
        await self._run_pipeline("wake")
        await self._send_audio(AudioChunk(chunk.rate, chunk.width, chunk.channels, self._before))
        self._before = bytes(2 * BYTES_PER_SECOND)

    def _stream(self, on: bool) -> None:
        self.streaming_since = (self.streaming_since or time.monotonic()) if on else None

    async def _send_audio(self, chunk: AudioChunk) -> None:
        if not self._settings.silent_microphone:
            await self._send(chunk.event())

    async def _run_pipeline(self, start: str, restart: bool = False, **more: str) -> None:
        settings = self._settings
        if settings.send_run_pipeline:
            end = "tts" if settings.has_speaker else "handle"
            data: dict[str, Any] = {"start_stage": start, "end_stage": end, "restart_on_end": restart}
            await self._send(Event("run-pipeline", data | more | {"snd_format": asdict(settings.speaker_format)}))
