"""Text to speech: how long until something is heard, and whether it then goes on without a gap."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from wyoming.audio import AudioChunk
from wyoming.event import Event
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop

from satellite.audio.pcm import CANONICAL, AudioFormat, Converter
from satellite.errors import SatelliteError
from satellite_bench.contest import Outcome, Pair, compete
from satellite_bench.server import Server, connected, receive
from satellite_bench.stats import Compared

REPLIES = {
    "1 s": "The light is on.",
    "3 s": "The kitchen window is still open, and it is raining.",
    "6 s": "It is twenty one degrees in the living room, the door is locked, and the washing machine is done by noon.",
    "10 s": "Good evening. The heating will be turned down at ten tonight, as you asked this morning. "
    "Two windows are still open, one in the bathroom and one upstairs. Would you like me to remind you?",
}
"""Responses of a home by the time they take to say."""

_AUDIBLE = 0.01
"""-40 dBFS: the sound that counts as heard."""


class Playback:
    """Plays chunks as they arrive, each when it is there and the one before it is over; all times in ms."""

    def __init__(self) -> None:
        self.first_audio_ms: float | None = None
        """When the first chunk came."""

        self.first_audible_ms: float | None = None
        """When the first sample above -40 dBFS was heard: silence at the beginning of the sound takes its time."""

        self.audio_ms = 0.0
        self.stall_ms = 0.0
        """Silence between chunks, because the next one was not there yet."""

        self.pcm = bytearray()
        self.source = CANONICAL
        """All sound so far, and its format."""

        self._over_ms = 0.0

    def take(self, chunk: AudioChunk, at_ms: float) -> None:
        """Play `chunk`, which came at `at_ms`."""
        self.source = AudioFormat(chunk.rate, chunk.width, chunk.channels)
        self.pcm += chunk.audio
        samples = np.frombuffer(chunk.audio, np.int16)
        milliseconds = 1000 * len(samples) / (chunk.rate * chunk.channels)
        if self.first_audio_ms is None:
            self.first_audio_ms = self._over_ms = at_ms
        begins_ms = max(self._over_ms, at_ms)
        self.stall_ms += begins_ms - self._over_ms
        if self.first_audible_ms is None:
            loud = np.flatnonzero(np.abs(samples.astype(np.int32)) >= _AUDIBLE * 32768)
            if len(loud):
                self.first_audible_ms = begins_ms + float(loud[0]) / len(samples) * milliseconds
        self._over_ms = begins_ms + milliseconds
        self.audio_ms += milliseconds


@dataclass(frozen=True, slots=True)
class Spoken:
    """One answer, in milliseconds from before the request is sent, the connection being open."""

    first_audio_ms: float
    """To the first `audio-chunk`: wyoming-bench's `ttft`."""

    first_audible_ms: float
    complete_ms: float
    """To the last event, `audio-stop` or `synthesize-stopped`: wyoming-bench's `total`."""

    stall_ms: float
    audio_ms: float
    pcm: bytes
    source: AudioFormat
    """The sound, and its format."""

    @property
    def canonical(self) -> bytes:
        """The sound in canonical PCM."""
        converter = Converter(self.source)
        return converter.convert(self.pcm) + converter.flush()


@dataclass(frozen=True, slots=True)
class TtsFigures:
    """What is compared, over some replies."""

    first_audio_ms: Compared
    first_audible_ms: Compared
    complete_ms: Compared
    stall_ms: Compared
    audio_ms: Compared


@dataclass(frozen=True, slots=True)
class TtsResult:
    """All replies, requested in one form."""

    streaming: bool
    """True for text that comes word by word, `synthesize-start` to `synthesize-stop`; False for `synthesize`."""

    overall: TtsFigures
    by_reply: dict[str, TtsFigures]
    failures: tuple[str, ...]


async def measure(pair: Pair, *, streaming: bool, repeats: int, on_progress: Callable[[int, int], None]) -> TtsResult:
    """Let both servers speak the replies. The longest goes first, uncounted, to warm them up."""

    async def request(server: Server, label: str) -> Spoken:
        return await synthesize(server.port, REPLIES[label], streaming=streaming)

    labels: Sequence[str] = tuple(REPLIES)
    for server in pair.servers:
        await synthesize(server.port, REPLIES[labels[-1]], streaming=streaming)
    outcome = await compete(pair, labels, request, repeats=repeats, on_progress=on_progress)
    by_reply = {label: _figures(outcome, (label,)) for label in labels}
    return TtsResult(streaming, _figures(outcome, labels), by_reply, tuple(outcome.failures))


def _figures(outcome: Outcome[str, Spoken], only: Sequence[str]) -> TtsFigures:
    return TtsFigures(
        first_audio_ms=outcome.compared(lambda spoken: spoken.first_audio_ms, only),
        first_audible_ms=outcome.compared(lambda spoken: spoken.first_audible_ms, only),
        complete_ms=outcome.compared(lambda spoken: spoken.complete_ms, only),
        stall_ms=outcome.compared(lambda spoken: spoken.stall_ms, only),
        audio_ms=outcome.compared(lambda spoken: spoken.audio_ms, only),
    )


async def synthesize(port: int, text: str, *, streaming: bool) -> Spoken:
    """Have `text` spoken over a connection of its own; streamed text comes word by word without a pause."""
    playback = Playback()
    async with connected(port) as client:
        began = time.monotonic()
        for event in _request(text) if streaming else (Synthesize(text=text).event(),):
            await client.write_event(event)
        last = "synthesize-stopped" if streaming else "audio-stop"
        while (event := await receive(client)).type != last:
            if event.type == "audio-chunk":
                playback.take(AudioChunk.from_event(event), (time.monotonic() - began) * 1000)
        complete_ms = (time.monotonic() - began) * 1000
    if playback.first_audio_ms is None or playback.first_audible_ms is None:
        raise SatelliteError("the server sent no sound", code="bench-request")
    return Spoken(
        playback.first_audio_ms,
        playback.first_audible_ms,
        complete_ms,
        playback.stall_ms,
        playback.audio_ms,
        bytes(playback.pcm),
        playback.source,
    )


def _request(text: str) -> list[Event]:
    """Return the events of streamed text, word by word as a chat model gives it."""
    words = [SynthesizeChunk(text=word + " ").event() for word in text.split()]
    return [SynthesizeStart().event(), *words, SynthesizeStop().event()]
