"""One client's connection: answers `describe` and `ping` at once, and hands everything else to the stages.

Events are read all the time, so that a client that leaves is noticed in the middle of a long answer. Requests are
answered one after the other by a second task, so that two answers never mix on one connection.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import SelectProgram
from wyoming.intent import Intent
from wyoming.ping import Ping, Pong
from wyoming.pipeline import RunPipeline
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop
from wyoming.wake import Detect

from satellite.audio import AudioFormat, Converter
from satellite.config import nearest
from satellite.errors import ProtocolError, SatelliteError, Stage, StageError
from satellite.events import EventBus
from satellite.services import info
from satellite.services.handle import answer
from satellite.services.listening import CommandListener, WakeListener
from satellite.services.room import DialogueListener
from satellite.services.speaking import TextStream, speak
from satellite.turn.stages import Stages
from satellite.wire.connection import Connection

_LOGGER = logging.getLogger(__name__)

_QUEUED_REQUESTS = 8

_LAST_ANSWERS_SECONDS = 30.0
"""How long a client that sends no more may wait for the answers to what it has asked."""

ALL_STAGES = frozenset(Stage)

Command = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Answers an event of our own, on the port with all services, by one of the same type: data in, data out."""


_FIELD_TYPES: dict[str, type] = {
    **dict.fromkeys(("text", "name", "language", "speaker"), str),
    **dict.fromkeys(("rate", "width", "channels", "timestamp"), int),
    **dict.fromkeys(("names", "transcript_names", "transcript_terms", "wake_word_names"), list),
    **dict.fromkeys(("context", "voice"), dict),
}


class Listener(Protocol):
    """Takes the audio of the current request."""

    async def start(self) -> None:
        """A new stream of audio begins."""

    async def feed(self, pcm: bytes, timestamp_ms: int | None) -> None:
        """Take canonical audio; `timestamp_ms` is the client's stamp of its first sample."""

    async def stop(self) -> None:
        """The audio is over."""

    async def close(self) -> None:
        """Another request or the end of the connection takes this one's place."""


class Session:
    """Serves one connection until the client leaves."""

    def __init__(
        self,
        connection: Connection,
        stages: Stages,
        bus: EventBus,
        served: frozenset[Stage],
        commands: Mapping[str, Command],
    ) -> None:
        self.connection = connection
        self.stages = stages
        self.bus = bus
        self._commands = commands
        self._served = served
        self._programs: dict[Stage, str] = {}
        self._listener: Listener | None = None
        self._converter: Converter | None = None
        self._text_stream: TextStream | None = None
        self._ended = False
        self._answering = False
        self._requests: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue(_QUEUED_REQUESTS)

    async def serve(self) -> None:
        """Read events until the client leaves; whatever is under way then is cancelled.

        A client that only closes its own half still gets its answers. Whether it has gone altogether shows with the
        first of them: writing fails, and the rest is dropped.
        """
        answering = asyncio.create_task(self._answer_requests(), name=f"answers {self.connection.peer}")
        try:
            async for event in self.connection:
                await self._dispatch_safely(event)
            if not self.connection.was_reset:
                await self._listen(None)
                self._ended = True
                if self._text_stream is not None:
                    self._text_stream.end()
                if self.answering:
                    await asyncio.wait((answering,), timeout=_LAST_ANSWERS_SECONDS)
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
            await self._listen(None)

    async def _dispatch_safely(self, event: Event) -> None:
        """Handle `event`; what is wrong with it is answered with an `error` event, and the connection goes on."""
        try:
            await self._dispatch(event)
        except SatelliteError as error:
            await self.fail(error)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # wyoming's from_event raises these for missing or mistyped fields
            await self.fail(ProtocolError(f"{event.type}: {type(error).__name__}: {error}"))

    async def _dispatch(self, event: Event) -> None:
        _check_fields(event.data)
        match event.type:
            case "describe":
                await self.connection.send(self._info())
            case "ping":
                await self.connection.send(Pong(text=Ping.from_event(event).text))
            case "select-program":
                self._select(SelectProgram.from_event(event).name)
            case "audio-chunk":
                await self._audio(AudioChunk.from_event(event))
            case "audio-start":
                start = AudioStart.from_event(event)
                await self._audio_start(AudioFormat(start.rate, start.width, start.channels))
            case "audio-stop":
                AudioStop.from_event(event)
                await self._audio_stop()
            case _:
                await self._dispatch_request(event)

    async def _dispatch_request(self, event: Event) -> None:
        if Transcribe.is_type(event.type) and Stage.STT in self._served:
            await self._listen(CommandListener(self, Transcribe.from_event(event)))
        elif Detect.is_type(event.type) and Stage.WAKE in self._served:
            await self._listen(WakeListener(self, Detect.from_event(event), self._programs.get(Stage.WAKE)))
        elif RunPipeline.is_type(event.type) and self._served == ALL_STAGES:
            await self._listen(DialogueListener(self, RunPipeline.from_event(event)))
        elif Transcript.is_type(event.type) and Stage.CHAT in self._served:
            transcript = Transcript.from_event(event)
            self.request(lambda: answer(self, transcript.text or "", transcript.context, transcript.language))
        elif Intent.is_type(event.type) and Stage.CHAT in self._served:
            intent = Intent.from_event(event)
            self.request(lambda: answer(self, intent.text or "", intent.context, None))
        elif event.type in self._commands and self._served == ALL_STAGES:
            self.request(lambda: self._run_command(event))
        elif Stage.TTS in self._served:
            await self._dispatch_speech(event)

    async def _dispatch_speech(self, event: Event) -> None:
        if SynthesizeStart.is_type(event.type):
            start = SynthesizeStart.from_event(event)
            if self._text_stream is not None:
                self._text_stream.end()
            stream = self._text_stream = TextStream(self.stages.config.wyoming.max_text_characters)
            self.request(lambda: speak(self, stream, start.voice, start.text_format, streaming=True))
        elif SynthesizeChunk.is_type(event.type) and self._text_stream is not None:
            self._text_stream.add(SynthesizeChunk.from_event(event).text)
        elif SynthesizeStop.is_type(event.type) and self._text_stream is not None:
            self._text_stream.end()
            self._text_stream = None
        elif Synthesize.is_type(event.type) and self._text_stream is None:
            # Inside a stream `synthesize` only repeats the text for servers that cannot stream.
            request = Synthesize.from_event(event)
            stream = TextStream(self.stages.config.wyoming.max_text_characters)
            stream.add(request.text)
            stream.end()
            self.request(lambda: speak(self, stream, request.voice, request.text_format, streaming=False))
        elif SynthesizeChunk.is_type(event.type) or SynthesizeStop.is_type(event.type):
            raise ProtocolError(f"{event.type} without synthesize-start")

    async def _run_command(self, event: Event) -> None:
        await self.connection.send(Event(event.type, await self._commands[event.type](event.data)))

    def _info(self) -> Event:
        config = self.stages.config
        return info.describe(
            self.stages.engines,
            self._served,
            own_endpoint=config.stt.own_endpoint,
            controls_home=config.home_assistant.url is not None,
        ).event()

    def _select(self, name: str) -> None:
        """Remember the engine of each stage that the program belongs to; wake words have two, the other stages one."""
        programs = info.selectable(self.stages.engines)
        if name not in programs:
            raise ProtocolError(f"unknown program {name!r}; {nearest(name, set(programs))}", code="unknown-program")
        self._programs |= programs[name]

    async def _listen(self, listener: Listener | None) -> None:
        """Let `listener` take the audio from now on."""
        previous, self._listener = self._listener, listener
        self._converter = None
        if previous is not None:
            await previous.close()

    async def _audio_start(self, source: AudioFormat) -> None:
        if self._listener is None:
            await self._listen(self._default_listener())
        self._converter = Converter(source)
        assert self._listener is not None
        await self._listener.start()

    async def _audio(self, chunk: AudioChunk) -> None:
        source = AudioFormat(chunk.rate, chunk.width, chunk.channels)
        if self._converter is None or self._converter.source != source:
            if self._listener is None or self._converter is None:
                await self._audio_start(source)
            else:
                self._converter = Converter(source)
        assert self._converter is not None
        assert self._listener is not None
        await self._listener.feed(self._converter.convert(chunk.audio), chunk.timestamp)

    async def _audio_stop(self) -> None:
        if self._listener is None:
            return
        if self._converter is not None:
            await self._listener.feed(self._converter.flush(), None)
            self._converter = None
        await self._listener.stop()

    def _default_listener(self) -> Listener:
        """Audio without a request: what the port is for, speech to text first."""
        if Stage.STT in self._served:
            return CommandListener(self, Transcribe())
        if Stage.WAKE in self._served:
            return WakeListener(self, Detect(), self._programs.get(Stage.WAKE))
        raise ProtocolError("this port takes no audio")

    def request(self, call: Callable[[], Awaitable[None]]) -> None:
        """Queue an answer; raises when the client has too many requests open."""
        try:
            self._requests.put_nowait(call)
        except asyncio.QueueFull:
            raise ProtocolError(
                f"more than {_QUEUED_REQUESTS} requests wait on this connection", code="protocol-overload"
            ) from None

    @property
    def answering(self) -> bool:
        """Whether an answer is under way or waits."""
        return self._answering or not self._requests.empty()

    async def _answer_requests(self) -> None:
        while not (self._ended and self._requests.empty()):
            self._answering = False
            call = await self._requests.get()
            self._answering = True
            try:
                await call()
            except SatelliteError as error:
                await self._tell(error)
            except ConnectionError:
                return  # the reader sees the same end
            except Exception as error:  # the request boundary: the client must be told, whatever broke
                _LOGGER.exception("%s: a request failed unexpectedly", self.connection.peer)
                await self._tell(SatelliteError(f"{type(error).__name__}: {error}"))

    async def _tell(self, error: SatelliteError) -> None:
        try:
            await self.fail(error)
        except (ConnectionError, ProtocolError):
            self.connection.abort()

    async def fail(self, error: SatelliteError) -> None:
        """Log `error` and tell the client."""
        self.note(error)
        await self.connection.send(Error(text=str(error), code=error.code))

    def note(self, error: SatelliteError) -> None:
        """Log `error`."""
        severity = logging.WARNING if isinstance(error, StageError) else logging.INFO
        _LOGGER.log(severity, "%s: [%s] %s", self.connection.peer, error.code, error, extra={"code": error.code})


def _check_fields(data: dict[str, Any]) -> None:
    """Refuse fields of a wrong type, which `wyoming` lets through; raises `ProtocolError`."""
    for name, kind in _FIELD_TYPES.items():
        value = data.get(name)
        if value is not None and not isinstance(value, kind):
            raise ProtocolError(f"{name} is no {kind.__name__}")
    if data.get("voice") is not None:
        _check_fields(data["voice"])
