"""One client's connection: answers `describe` and `ping` at once, and hands everything else to the stages.

Three tasks. One reads, all the time, so that a client that leaves is noticed in the middle of a long answer. What it
reads waits, in a bounded queue, for the second, which handles event by event and may wait for an engine. Requests are
answered one after the other by the third, so that two answers never mix on one connection.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import SelectProgram
from wyoming.intent import Intent
from wyoming.ping import Ping, Pong
from wyoming.pipeline import RunPipeline
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop
from wyoming.wake import Detect

from satellite.audio.pcm import AudioFormat, Converter
from satellite.config.settings import nearest
from satellite.errors import ProtocolError, SatelliteError, Stage, StageError, in_words, shown
from satellite.events import EventBus
from satellite.pipeline.stages import Stages
from satellite.services import info
from satellite.services.event_queue import WaitingEvents
from satellite.services.handle import answer
from satellite.services.listening import CommandListener, WakeListener
from satellite.services.run_pipeline import DialogueListener
from satellite.services.speaking import TextStream, speak
from satellite.tasks import begin_task, end_tasks
from satellite.wire.connection import Connection
from satellite.wire.parsing import Faults, parsed

_LOGGER = logging.getLogger(__name__)

_QUEUED_REQUESTS = 8

_WAITING_BYTES = 2 * 1024 * 1024
"""Most that is read ahead of what is handled: half a minute of audio. As long as there is room a ping is answered."""

_LAST_ANSWERS_SECONDS = 30.0
"""How long a client that sends no more waits for the next of the answers to what it has asked, beside loading."""

ALL_STAGES = frozenset(Stage)

Command = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Answers an event of our own, on the port with all services, by one of the same type: data in, data out."""


class Listener(Protocol):
    """Takes the audio of the current request."""

    async def start(self) -> None:
        """A new stream of audio begins."""

    async def feed(self, pcm: bytes, timestamp_ms: int | None) -> None:
        """Take canonical audio; `timestamp_ms` is the client's stamp of its first sample."""

    async def stop(self) -> None:
        """The audio is over."""

    async def finish(self) -> None:
        """The client sends no more: complete what needs nothing from it, drop what does."""

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
        self._waiting = WaitingEvents(_WAITING_BYTES)
        self._faults = Faults()
        self._deaf = False  # whether the audio that comes has been answered with an error
        self._ended = False
        self._answering = False
        self._requests: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue(_QUEUED_REQUESTS)

    async def serve(self) -> None:
        """Read events until the client leaves; whatever is under way then is cancelled.

        A client that only closes its own half still gets its answers. Whether it has gone altogether shows with the
        first of them: writing fails, and the rest is dropped.
        """
        handling = begin_task(self._handle_events(), f"events {self.connection.peer}")
        answering = begin_task(self._answer_requests(), f"answers {self.connection.peer}")
        try:
            async for event in self.connection:
                if event.type in ("describe", "ping"):
                    await self._safely(event, self._answer_at_once)
                else:
                    await self._waiting.put(event, self.connection.event_bytes)
            if not self.connection.was_reset:
                self._waiting.end()
                await self._until_done(handling)
                if self.answering:
                    await self._until_done(answering)
        finally:
            await end_tasks(handling, answering)
            await self._listen(None)

    async def _until_done(self, task: asyncio.Task[None]) -> None:
        """Wait until `task` is done, as long as the client is sent something now and then."""
        longest = _LAST_ANSWERS_SECONDS + self.stages.config.deadlines.load_seconds
        while not task.done() and (left := self.connection.last_active_at + longest - time.monotonic()) > 0:
            await asyncio.wait((task,), timeout=left)

    async def _handle_events(self) -> None:
        """Handle what waits, in order, until the client sends no more; then what it has asked for is completed."""
        try:
            async for event in self._waiting:
                await self._safely(event, self._dispatch)
            if self._text_stream is not None:
                self._text_stream.end()
            if self._listener is not None:
                await self._listener.finish()
            self._ended = True
        except ConnectionError:
            self.connection.abort()
        except ProtocolError as error:  # it does not read
            self.note(error)
            self.connection.abort()

    async def _safely(self, event: Event, handle: Callable[[Event], Awaitable[None]]) -> None:
        """Handle `event`; what is wrong with it is answered with an `error` event, and the connection goes on.

        Raises `ConnectionError` and `ProtocolError` where the client cannot be told.
        """
        try:
            await handle(event)
        except ConnectionError:
            raise
        except SatelliteError as error:
            await self._blame(event, error)
        except Exception as error:  # the event's boundary: the client must be told, whatever broke
            _LOGGER.exception("%s: an event failed unexpectedly", self.connection.peer)
            await self._blame(event, SatelliteError(in_words(error)))

    async def _blame(self, event: Event, error: SatelliteError) -> None:
        """Tell what is wrong with `event`; of the chunks of one stream of audio, once."""
        if event.type == "audio-chunk":
            if self._deaf:
                return
            self._deaf = True
        await self.fail(error)

    async def _answer_at_once(self, event: Event) -> None:
        if event.type == "ping":
            await self.connection.send(Pong(text=parsed(Ping.from_event, event).text))
        else:
            await self.connection.send(self._info())

    async def _dispatch(self, event: Event) -> None:
        match event.type:
            case "select-program":
                self._select(parsed(SelectProgram.from_event, event).name)
            case "audio-chunk":
                await self._audio(parsed(AudioChunk.from_event, event))
            case "audio-start":
                start = parsed(AudioStart.from_event, event)
                await self._audio_start(AudioFormat(start.rate, start.width, start.channels))
            case "audio-stop":
                await self._audio_stop()
            case _:
                await self._dispatch_request(event)

    async def _dispatch_request(self, event: Event) -> None:
        if Transcribe.is_type(event.type) and Stage.STT in self._served:
            await self._listen(CommandListener(self, parsed(Transcribe.from_event, event)))
        elif Detect.is_type(event.type) and Stage.WAKE in self._served:
            await self._listen(WakeListener(self, parsed(Detect.from_event, event), self._programs.get(Stage.WAKE)))
        elif RunPipeline.is_type(event.type) and self._served == ALL_STAGES:
            request = parsed(RunPipeline.from_event, event)
            await self._listen(None)  # two runs at once would mix on the connection
            await self._listen(DialogueListener(self, request))
        elif Transcript.is_type(event.type) and Stage.CHAT in self._served:
            if event.data.get("text", "") is None:  # no text, as in `intent`
                event.data["text"] = ""
            transcript = parsed(Transcript.from_event, event)
            self.request(lambda: answer(self, transcript.text or "", transcript.context, transcript.language))
        elif Intent.is_type(event.type) and Stage.CHAT in self._served:
            intent = parsed(Intent.from_event, event)
            self.request(lambda: answer(self, intent.text or "", intent.context, None))
        elif event.type in self._commands and self._served == ALL_STAGES:
            self.request(lambda: self._run_command(event))
        elif Stage.TTS in self._served:
            await self._dispatch_speech(event)

    async def _dispatch_speech(self, event: Event) -> None:
        if SynthesizeStart.is_type(event.type):
            start = parsed(SynthesizeStart.from_event, event)
            if self._text_stream is not None:
                self._text_stream.end()
            stream = TextStream(self.stages.config.wyoming.max_text_characters)
            self.request(lambda: speak(self, stream, start.voice, start.text_format, streaming=True))
            self._text_stream = stream
        elif SynthesizeChunk.is_type(event.type) and self._text_stream is not None:
            self._text_stream.add(parsed(SynthesizeChunk.from_event, event).text)
        elif SynthesizeStop.is_type(event.type) and self._text_stream is not None:
            self._text_stream.end()
            self._text_stream = None
        elif Synthesize.is_type(event.type) and self._text_stream is None:
            # Inside a stream `synthesize` only repeats the text for servers that cannot stream.
            request = parsed(Synthesize.from_event, event)
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
            raise ProtocolError(
                f"unknown program '{shown(name)}'; {nearest(name, set(programs))}", code="unknown-program"
            )
        self._programs |= programs[name]

    async def _listen(self, listener: Listener | None) -> None:
        """Let `listener` take the audio from now on."""
        previous, self._listener = self._listener, listener
        self._converter = None
        self._deaf = False
        if previous is not None:
            await previous.close()

    async def _audio_start(self, source: AudioFormat) -> None:
        if self._listener is None:
            await self._listen(self._default_listener())
        self._converter = Converter(source)
        self._deaf = False
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
                await self._tell(SatelliteError(in_words(error)))

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
        """Log `error`; of a client that makes one mistake after the other, the first few."""
        level = logging.WARNING
        if not isinstance(error, StageError):
            level = self._faults.level(logging.INFO)
        _LOGGER.log(level, "%s: [%s] %s", self.connection.peer, error.code, error, extra={"code": error.code})
