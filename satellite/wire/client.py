"""Talking to a running daemon as any Wyoming client would: what `ask`, `say` and `demo` use."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event
from wyoming.handle import Handled, HandledChunk, NotHandled
from wyoming.info import Describe, Info
from wyoming.pipeline import PipelineStage, RunPipeline
from wyoming.tts import Synthesize, SynthesizeVoice
from wyoming.wake import Detect, Detection

from satellite.audio.pcm import CANONICAL, WIDTH, AudioFormat
from satellite.errors import DaemonUnreachable, SatelliteError, shown
from satellite.net.binding import EVERYWHERE
from satellite.tasks import begin_task, end_tasks, failure_of
from satellite.wire.connection import Connection, Timeouts, dial
from satellite.wire.parsing import parsed

DEFAULT_URI = "tcp://127.0.0.1:10600"

JsonObject = dict[str, Any]
"""What a daemon answers to its own commands, as parsed from JSON."""

_CHUNK_SAMPLES = 512
_ANSWER_SECONDS = 120.0

_LONGEST_REASON = 1000
"""Characters of an error's text."""


@dataclass(slots=True)
class Heard:
    """What came back from a run."""

    wake_word: str | None = None
    transcript: str = ""
    language: str = ""
    """That of the transcript, where the server tells it."""

    reply: str = ""
    handled: bool = False
    """Whether the chat model has completed its answer."""

    provider: str = ""
    pcm: bytearray = field(default_factory=bytearray)
    format: AudioFormat | None = None
    context: dict[str, Any] = field(default_factory=dict)

    @property
    def audio_seconds(self) -> float:
        """How long the answer's sound lasts."""
        if self.format is None:
            return 0.0
        return len(self.pcm) / (self.format.rate * self.format.frame_bytes)

    def take(self, event: Event) -> bool:
        """Note what `event` says and return whether the run is over; raises the failure that it reports."""
        match event.type:
            case "detection":
                self.wake_word = parsed(Detection.from_event, event).name
            case "transcript":
                transcript = parsed(Transcript.from_event, event)
                self.transcript, self.language = transcript.text, transcript.language or ""
            case "handled":
                handled = parsed(Handled.from_event, event)
                self.handled = True
                self.reply = handled.text or ""
                self.context = handled.context or {}
                self.provider = str(self.context.get("provider", ""))
            case "not-handled":
                self.reply = parsed(NotHandled.from_event, event).text or ""
                if code := event.data.get("code"):  # satellite's own: why there is no answer
                    raise _failure_of(event.data.get("detail") or self.reply, code)
            case "audio-start":
                start = parsed(AudioStart.from_event, event)
                self.format = AudioFormat(start.rate, start.width, start.channels)
            case "audio-chunk":
                self.pcm += parsed(AudioChunk.from_event, event).audio
            case "audio-stop":
                return True
            case "error":
                error = parsed(Error.from_event, event)
                raise _failure_of(error.text, error.code or "internal-error")
        return False


def _failure_of(reason: object, code: object) -> SatelliteError:
    """Return the error that a server tells of, as long as it may be in a message."""
    return SatelliteError(shown(reason, _LONGEST_REASON), code=shown(code))


@asynccontextmanager
async def connected(uri: str) -> AsyncIterator[Connection]:
    """Connect to the daemon at `uri` for the length of the `with`; raises `DaemonUnreachable`."""
    connection = await dial(uri, Timeouts(idle_seconds=_ANSWER_SECONDS))
    try:
        yield connection
    finally:
        await connection.close()


async def _until(connection: Connection, heard: Heard, last: str) -> Heard:
    async for event in connection:
        if heard.take(event) or event.type == last:
            return heard
    raise DaemonUnreachable("the daemon closed the connection before it had answered")


async def ask_text(uri: str, text: str, on_words: Callable[[str], None], language: str | None = None) -> Heard:
    """Return the answer to `text`; `on_words` gets it piece by piece as it comes."""
    heard = Heard(transcript=text)
    async with connected(uri) as connection:
        await connection.send(Transcript(text=text, language=language))
        async for event in connection:
            if HandledChunk.is_type(event.type):
                on_words(parsed(HandledChunk.from_event, event).text)
            heard.take(event)
            if event.type in ("handled", "not-handled"):
                return heard
    raise DaemonUnreachable("the daemon closed the connection before it had answered")


async def described(uri: str) -> Info:
    """Return what the Wyoming server at `uri` offers."""
    async with connected(uri) as connection:
        await connection.send(Describe())
        async for event in connection:
            if Info.is_type(event.type):
                return parsed(Info.from_event, event)
    raise DaemonUnreachable(f"{uri} hung up before it had described itself")


def own_uri(hosts: Sequence[str], port: int) -> str:
    """Return the address at which this machine reaches a daemon that listens at `hosts`."""
    host = "127.0.0.1" if set(hosts) & set(EVERYWHERE) else hosts[0]
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


async def status(uri: str) -> JsonObject:
    """Return the daemon's state."""
    return await command(uri, "status")


async def command(uri: str, name: str, **data: object) -> JsonObject:
    """Return what the daemon answers to one of its own commands; raises what an `error` event reports."""
    async with connected(uri) as connection:
        await connection.send(Event(name, data))
        async for event in connection:
            Heard().take(event)
            if event.type == name:
                return event.data
    raise DaemonUnreachable("the daemon closed the connection before it had answered")


async def transcribe(uri: str, pcm: bytes, language: str | None = None, names: Sequence[str] = ()) -> Heard:
    """Return the words in canonical `pcm`; `names` are to be expected in them."""
    request = Transcribe(language=language, transcript_names=list(names) or None)
    async with connected(uri) as connection:
        await connection.send(request, *audio_events(pcm))
        return await _until(connection, Heard(), "transcript")


async def say(uri: str, text: str, voice: str | None = None, speaker: str | None = None) -> Heard:
    """Return `text` as sound."""
    heard = Heard()
    async with aclosing(sound(uri, text, voice, speaker)) as pieces:
        async for heard.format, pcm in pieces:
            heard.pcm += pcm
    return heard


async def sound(
    uri: str, text: str, voice: str | None = None, speaker: str | None = None
) -> AsyncGenerator[tuple[AudioFormat | None, bytes], None]:
    """Yield `text` as sound, piece by piece as it comes, each with its format; a piece may be empty."""
    choice = SynthesizeVoice(name=voice, speaker=speaker) if voice else None
    heard = Heard()
    async with connected(uri) as connection:
        await connection.send(Synthesize(text=text, voice=choice))
        async for event in connection:
            over = heard.take(event)
            yield heard.format, bytes(heard.pcm)
            if over:
                return
            heard.pcm.clear()
    raise DaemonUnreachable("the daemon closed the connection before it had answered")


async def detects(uri: str, pcm: bytes) -> bool:
    """Return whether a configured wake word is in canonical `pcm`."""
    async with connected(uri) as connection:
        await connection.send(Detect(), *audio_events(pcm))
        async for event in connection:
            if event.type in ("detection", "not-detected"):
                return event.type == "detection"
    raise DaemonUnreachable("the daemon closed the connection before it had answered")


async def converse(
    uri: str,
    microphone: AsyncIterator[bytes],
    *,
    start: PipelineStage = PipelineStage.WAKE,
    end: PipelineStage = PipelineStage.TTS,
    on_event: Callable[[Event], None] = lambda _: None,
) -> Heard:
    """Play the part of a room: send canonical audio as `microphone` gives it and return the run's outcome."""
    heard = Heard()
    async with connected(uri) as connection:
        await connection.send(RunPipeline(start_stage=start, end_stage=end))
        sending = begin_task(_send_audio(connection, microphone), "microphone")
        sending.add_done_callback(lambda task: connection.abort() if failure_of(task) else None)
        try:
            async for event in connection:
                on_event(event)
                over = heard.take(event) or end is PipelineStage.HANDLE
                if over and heard.handled:  # sound without a complete answer is an apology, with an error behind it
                    return heard
        finally:
            await end_tasks(sending)
    raise failure_of(sending) or DaemonUnreachable("the daemon closed the connection before it had answered")


async def _send_audio(connection: Connection, microphone: AsyncIterator[bytes]) -> None:
    shape = {"rate": CANONICAL.rate, "width": CANONICAL.width, "channels": CANONICAL.channels}
    async for pcm in microphone:
        await connection.send(AudioChunk(audio=pcm, **shape))
    await connection.send(AudioStop())


async def recording(pcm: bytes, *, realtime: bool) -> AsyncIterator[bytes]:
    """Yield canonical `pcm` in chunks, at a microphone's pace if `realtime`, else at once."""
    started = time.monotonic()
    size = _CHUNK_SAMPLES * WIDTH
    for at in range(0, len(pcm), size):
        if realtime:
            due = started + (at + size) / (CANONICAL.rate * WIDTH)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        yield pcm[at : at + size]


def audio_events(pcm: bytes) -> list[Event]:
    """Return canonical `pcm` as `audio-start`, chunks and `audio-stop`."""
    shape = {"rate": CANONICAL.rate, "width": CANONICAL.width, "channels": CANONICAL.channels}
    size = _CHUNK_SAMPLES * WIDTH
    chunks = [AudioChunk(audio=pcm[at : at + size], **shape).event() for at in range(0, len(pcm), size)]
    return [AudioStart(**shape).event(), *chunks, AudioStop().event()]
