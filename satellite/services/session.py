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
from wyoming.event import Event
from wyoming.info import SelectProgram
from wyoming.intent import Intent
from wyoming.ping import Ping, Pong
from wyoming.pipeline import RunPipeline
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeVoice
from wyoming.wake import Detect

from satellite.audio.pcm import AudioFormat, Converter
from satellite.config.settings import nearest
from satellite.errors import ProtocolError, SatelliteError, Stage, in_words, shown
from satellite.events import RunBus
from satellite.pipeline.stages import Stages
from satellite.services import info
from satellite.services.event_queue import WaitingEvents
from satellite.services.handle import answer
from satellite.services.listening import CommandListener, WakeListener
from satellite.services.peer import Peer
from satellite.services.run_pipeline import DialogueListener
from satellite.services.speaking import TextStream, speak
from satellite.tasks import begin_task, end_tasks
from satellite.wire.connection import Connection
from satellite.wire.parsing import parsed

_LOGGER = logging.getLogger(__name__)

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
        bus: RunBus,
        served: frozenset[Stage],
        commands: Mapping[str, Command],
        *,
        controls_home: bool = False,
    ) -> None:
        """Serve the stages `served`, and `commands` of our own; `controls_home` is announced in `info`."""
        self._connection = connection
        self._peer = Peer(connection)
        self._stages = stages
        self._bus = bus
        self._commands = commands
        self._served = served
        self._controls_home = controls_home
        self._programs: dict[Stage, str] = {}
        self._listener: Listener | None = None
        self._converter: Converter | None = None
        self._text_stream: TextStream | None = None
        self._waiting = WaitingEvents(_WAITING_BYTES)
        self._deaf = False  # whether the audio that comes has been answered with an error

    async def serve(self) -> None:
        """Read events until the client leaves; whatever is under way then is cancelled.

        A client that only closes its own half still gets its answers. Whether it has gone altogether shows with the
        first of them: writing fails, and the rest is dropped.
        """
        handling = begin_task(self._handle_events(), f"events {self._connection.peer}")
        answering = begin_task(self._peer.answer_requests(), f"answers {self._connection.peer}")
        try:
            async for event in self._connection:
                if event.type in ("describe", "ping"):
                    await self._safely(event, self._answer_at_once)
                else:
                    await self._waiting.put(event, self._connection.event_bytes)
            if not self._connection.was_reset:
                self._waiting.end()
                await self._until_done(handling)
                if self._peer.answering:
                    await self._until_done(answering)
        finally:
            await end_tasks(handling, answering)
            await self._listen(None)

    async def _until_done(self, task: asyncio.Task[None]) -> None:
        """Wait until `task` is done, as long as the client is sent something now and then."""
        longest = _LAST_ANSWERS_SECONDS + self._stages.config.deadlines.load_seconds
        while not task.done() and (left := self._connection.last_active_at + longest - time.monotonic()) > 0:
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
            self._peer.complete()
        except ConnectionError:
            self._connection.abort()
        except ProtocolError as error:  # it does not read
            self._peer.log(error)
            self._connection.abort()

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
            _LOGGER.exception("%s: an event failed unexpectedly", self._connection.peer)
            await self._blame(event, SatelliteError(in_words(error)))

    async def _blame(self, event: Event, error: SatelliteError) -> None:
        """Tell what is wrong with `event`; of the chunks of one stream of audio, once."""
        if event.type == "audio-chunk":
            if self._deaf:
                return
            self._deaf = True
        await self._peer.fail(error)

    async def _answer_at_once(self, event: Event) -> None:
        if event.type == "ping":
            await self._connection.send(Pong(text=parsed(Ping.from_event, event).text))
        else:
            await self._connection.send(self._info())

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
            await self._listen(CommandListener(self._peer, self._stages, parsed(Transcribe.from_event, event)))
        elif Detect.is_type(event.type) and Stage.WAKE in self._served:
            await self._listen(self._wake_listener(parsed(Detect.from_event, event)))
        elif RunPipeline.is_type(event.type) and self._served == ALL_STAGES:
            request = parsed(RunPipeline.from_event, event)
            await self._listen(None)  # two runs at once would mix on the connection
            await self._listen(DialogueListener(self._peer, self._stages, self._bus, request))
        elif Transcript.is_type(event.type) and Stage.CHAT in self._served:
            if event.data.get("text", "") is None:  # no text, as in `intent`
                event.data["text"] = ""
            transcript = parsed(Transcript.from_event, event)
            self._ask(transcript.text, transcript.context, transcript.language)
        elif Intent.is_type(event.type) and Stage.CHAT in self._served:
            intent = parsed(Intent.from_event, event)
            self._ask(intent.text, intent.context, None)
        elif event.type in self._commands and self._served == ALL_STAGES:
            self._peer.request(lambda: self._run_command(event))
        elif Stage.TTS in self._served:
            await self._dispatch_speech(event)

    async def _dispatch_speech(self, event: Event) -> None:
        if SynthesizeStart.is_type(event.type):
            start = parsed(SynthesizeStart.from_event, event)
            if self._text_stream is not None:
                self._text_stream.end()
            stream = TextStream(self._stages.config.wyoming.max_text_characters)
            self._speak(stream, start.voice, start.text_format, streaming=True)
            self._text_stream = stream
        elif SynthesizeChunk.is_type(event.type) and self._text_stream is not None:
            self._text_stream.add(parsed(SynthesizeChunk.from_event, event).text)
        elif SynthesizeStop.is_type(event.type) and self._text_stream is not None:
            self._text_stream.end()
            self._text_stream = None
        elif Synthesize.is_type(event.type) and self._text_stream is None:
            # Inside a stream `synthesize` only repeats the text for servers that cannot stream.
            request = parsed(Synthesize.from_event, event)
            stream = TextStream(self._stages.config.wyoming.max_text_characters)
            stream.add(request.text)
            stream.end()
            self._speak(stream, request.voice, request.text_format, streaming=False)
        elif SynthesizeChunk.is_type(event.type) or SynthesizeStop.is_type(event.type):
            raise ProtocolError(f"{event.type} without synthesize-start")

    def _ask(self, text: str | None, context: dict[str, Any] | None, language: str | None) -> None:
        self._peer.request(lambda: answer(self._peer, self._stages, text or "", context, language))

    def _speak(
        self, stream: TextStream, voice: SynthesizeVoice | None, text_format: object, *, streaming: bool
    ) -> None:
        self._peer.request(lambda: speak(self._peer, self._stages, stream, voice, text_format, streaming=streaming))

    async def _run_command(self, event: Event) -> None:
        await self._connection.send(Event(event.type, await self._commands[event.type](event.data)))

    def _info(self) -> Event:
        return info.describe(
            self._stages.engines,
            self._served,
            own_endpoint=self._stages.config.stt.own_endpoint,
            controls_home=self._controls_home,
        ).event()

    def _select(self, name: str) -> None:
        """Remember the engine of each stage that the program belongs to; wake words have two, the other stages one."""
        programs = info.selectable(self._stages.engines)
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
            return CommandListener(self._peer, self._stages, Transcribe())
        if Stage.WAKE in self._served:
            return self._wake_listener(Detect())
        raise ProtocolError("this port takes no audio")

    def _wake_listener(self, request: Detect) -> WakeListener:
        return WakeListener(self._peer, self._stages, request, self._programs.get(Stage.WAKE))
