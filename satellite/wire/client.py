"""A Wyoming client for running daemons and for other servers: what `ask`, `say`, `demo` and remote engines use."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable
from wyoming.handle import Handled, HandledChunk, NotHandled
from wyoming.info import Describe, Info
from wyoming.pipeline import PipelineStage, RunPipeline
from wyoming.tts import Synthesize, SynthesizeVoice
from wyoming.wake import Detect, Detection

from satellite.audio.pcm import CANONICAL, WIDTH, AudioFormat
from satellite.errors import DaemonUnreachable, SatelliteError, shown
from satellite.net.binding import EVERYWHERE, host_and_port
from satellite.tasks import begin_task, end_tasks, failure_of
from satellite.wire.connection import Connection, Timeouts, dial
from satellite.wire.parsing import parsed

DEFAULT_URI = "tcp://127.0.0.1:10600"

JsonObject = dict[str, Any]
"""An answer to a command of our own, as parsed from JSON."""

_SHAPE = {"rate": CANONICAL.rate, "width": CANONICAL.width, "channels": CANONICAL.channels}
_CHUNK_BYTES = 512 * WIDTH
_ANSWER_SECONDS = 120.0

_LONGEST_REASON = 1000
"""Characters of an error's text."""


@dataclass(slots=True)
class RunResult:
    """The results of a run, collected from the events of a server."""

    wake_word: str | None = None
    transcript: str = ""
    language: str = ""
    """That of the transcript, where the server reports it."""

    reply: str = ""
    handled: bool = False
    """Whether the chat model has completed its answer."""

    provider: str = ""
    pcm: bytearray = field(default_factory=bytearray)
    format: AudioFormat | None = None
    context: dict[str, Any] = field(default_factory=dict)

    @property
    def audio_seconds(self) -> float:
        """Duration of the answer's sound."""
        if self.format is None:
            return 0.0
        return len(self.pcm) / (self.format.rate * self.format.frame_bytes)

    def add(self, event: Event) -> bool:
        """Add what `event` reports and return whether the run is over; raises a failure that it reports."""
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
                if code := event.data.get("code"):  # not of Wyoming: why this daemon has no answer
                    raise _reported(event.data.get("detail") or self.reply, code)
            case "audio-start":
                start = parsed(AudioStart.from_event, event)
                self.format = AudioFormat(start.rate, start.width, start.channels)
            case "audio-chunk":
                self.pcm += parsed(AudioChunk.from_event, event).audio
            case "audio-stop":
                return True
            case "error":
                error = parsed(Error.from_event, event)
                raise _reported(error.text, error.code or "internal-error")
        return False


def _reported(reason: object, code: object) -> SatelliteError:
    """Return the error that a server reports, with its text cut to what fits into a message."""
    return SatelliteError(shown(reason, _LONGEST_REASON), code=shown(code))


@asynccontextmanager
async def connected(uri: str) -> AsyncIterator[Connection]:
    """Connect to the daemon at `uri` for the length of the `with`; raises `DaemonUnreachable`."""
    connection = await dial(uri, Timeouts(idle_seconds=_ANSWER_SECONDS))
    try:
        yield connection
    finally:
        await connection.close()


async def _answers(uri: str, *requests: Event | Eventable) -> AsyncGenerator[Event, None]:
    """Send `requests` and yield what comes back; raises `DaemonUnreachable` when the connection ends."""
    async with connected(uri) as connection:
        await connection.send(*requests)
        async for event in connection:
            yield event
    raise DaemonUnreachable(f"{uri} closed the connection before it had answered")


async def _first(uri: str, wanted: Collection[str], *requests: Event | Eventable) -> Event:
    """Send `requests` and return the first of the `wanted` events; raises what an `error` event reports."""
    async with aclosing(_answers(uri, *requests)) as events:
        while True:
            event = await anext(events)
            RunResult().add(event)
            if event.type in wanted:
                return event


async def ask_text(uri: str, text: str, on_words: Callable[[str], None], language: str | None = None) -> RunResult:
    """Return the answer to `text`; `on_words` gets it piece by piece as it comes."""
    result = RunResult(transcript=text)
    async with aclosing(_answers(uri, Transcript(text=text, language=language))) as events:
        async for event in events:
            if HandledChunk.is_type(event.type):
                on_words(parsed(HandledChunk.from_event, event).text)
            result.add(event)
            if event.type in ("handled", "not-handled"):
                break
    return result


async def described(uri: str) -> Info:
    """Return what the Wyoming server at `uri` offers."""
    return parsed(Info.from_event, await _first(uri, ("info",), Describe()))


def own_uri(hosts: Sequence[str], port: int) -> str:
    """Return the address at which this machine reaches a daemon that listens at `hosts`."""
    host = "127.0.0.1" if set(hosts) & set(EVERYWHERE) else hosts[0]
    return f"tcp://{host_and_port(host, port)}"


async def status(uri: str) -> JsonObject:
    """Return the daemon's state."""
    return await command(uri, "status")


async def command(uri: str, name: str, **data: object) -> JsonObject:
    """Return what the daemon answers to one of its own commands; raises what an `error` event reports."""
    return (await _first(uri, (name,), Event(name, data))).data


async def transcribe(uri: str, pcm: bytes, language: str | None = None, names: Sequence[str] = ()) -> RunResult:
    """Return the words in canonical `pcm`; `names` are names and terms to expect in them."""
    request = Transcribe(language=language, transcript_names=list(names) or None)
    result = RunResult()
    result.add(await _first(uri, ("transcript",), request, *audio_events(pcm)))
    return result


async def say(uri: str, text: str, voice: str | None = None, speaker: str | None = None) -> RunResult:
    """Return `text` as sound."""
    result = RunResult()
    async with aclosing(sound(uri, text, voice, speaker)) as pieces:
        async for result.format, pcm in pieces:
            result.pcm += pcm
    return result


async def sound(
    uri: str, text: str, voice: str | None = None, speaker: str | None = None
) -> AsyncGenerator[tuple[AudioFormat | None, bytes], None]:
    """Yield `text` as sound, piece by piece as it comes, each with its format; a piece may be empty."""
    choice = SynthesizeVoice(name=voice, speaker=speaker) if voice else None
    result = RunResult()
    async with aclosing(_answers(uri, Synthesize(text=text, voice=choice))) as events:
        async for event in events:
            over = result.add(event)
            yield result.format, bytes(result.pcm)
            if over:
                return
            result.pcm.clear()


async def detects(uri: str, pcm: bytes) -> bool:
    """Return whether a configured wake word is in canonical `pcm`."""
    event = await _first(uri, ("detection", "not-detected"), Detect(), *audio_events(pcm))
    return event.type == "detection"


async def converse(
    uri: str,
    microphone: AsyncIterator[bytes],
    *,
    start: PipelineStage = PipelineStage.WAKE,
    end: PipelineStage = PipelineStage.TTS,
    on_event: Callable[[Event], None] = lambda _: None,
) -> RunResult:
    """Act as a room: send canonical audio as `microphone` yields it, and return the result of the run."""
    result = RunResult()
    async with connected(uri) as connection:
        await connection.send(RunPipeline(start_stage=start, end_stage=end))
        sending = begin_task(_send_audio(connection, microphone), "microphone")
        # The daemon would wait for more audio: aborting ends the loop below, and the failure is raised after it.
        sending.add_done_callback(lambda task: connection.abort() if failure_of(task) else None)
        try:
            async for event in connection:
                on_event(event)
                over = result.add(event) or end is PipelineStage.HANDLE
                if over and result.handled:  # sound without a complete answer is an apology; an error follows
                    return result
        finally:
            await end_tasks(sending)
    raise failure_of(sending) or DaemonUnreachable("the daemon closed the connection before it had answered")


async def _send_audio(connection: Connection, microphone: AsyncIterator[bytes]) -> None:
    async for pcm in microphone:
        await connection.send(AudioChunk(audio=pcm, **_SHAPE))
    await connection.send(AudioStop())


async def recording(pcm: bytes, *, realtime: bool) -> AsyncIterator[bytes]:
    """Yield canonical `pcm` in chunks, at a microphone's pace if `realtime`, else at once."""
    started = time.monotonic()
    for at in range(0, len(pcm), _CHUNK_BYTES):
        if realtime:
            due = started + (at + _CHUNK_BYTES) / (CANONICAL.rate * WIDTH)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        yield pcm[at : at + _CHUNK_BYTES]


def audio_events(pcm: bytes) -> list[Event]:
    """Return canonical `pcm` as `audio-start`, chunks and `audio-stop`."""
    starts = range(0, len(pcm), _CHUNK_BYTES)
    chunks = [AudioChunk(audio=pcm[at : at + _CHUNK_BYTES], **_SHAPE).event() for at in starts]
    return [AudioStart(**_SHAPE).event(), *chunks, AudioStop().event()]
