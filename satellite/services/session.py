"""One client's connection: answers `describe` and `ping` at once, and hands everything else to the stages.

Three tasks. One reads, all the time, so that a client that leaves is noticed in the middle of a long answer. What it
reads waits, in a bounded queue, for the second, which handles event by event and may wait for an engine. Requests are
answered one after the other by the third, so that two answers never mix on one connection.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

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
from satellite.errors import ProtocolError, Stage, shown
from satellite.events import RunBus
from satellite.pipeline.stages import Stages
from satellite.pipeline.text_buffer import TextBuffer
from satellite.services import info
from satellite.services.detecting import DetectListener
from satellite.services.handle import answer
from satellite.services.peer import Listener, Peer
from satellite.services.run_pipeline import RunListener
from satellite.services.speaking import speak
from satellite.services.transcribing import TranscribeListener
from satellite.tasks import begin_task, end_tasks
from satellite.wire.connection import Connection
from satellite.wire.parsing import parsed

_WAITING_BYTES = 2 * 1024 * 1024
"""Events that are read before they can be handled: half a minute of audio. Beyond it, pings have to wait as well."""

_EVENT_BYTES = 512
"""Size of an event beside its contents, so that the number of tiny ones is bounded as well."""

_YIELD_EVENTS = 4
"""Events that are handled in a row before the event loop gets to others."""

_TEXT_WAIT_SECONDS = 60.0
"""How long a client may take for the next piece of text; a chat model on its side may be slow."""

_LAST_ANSWERS_SECONDS = 30.0
"""How long a client that sends no more may wait for its next answer, in addition to the time for loading an engine."""

ALL_STAGES = frozenset(Stage)

Command = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Handles an event type of our own, on the port with all services: from its data to the data of the answer."""


class EventQueue:
    """Events between the task that reads a client's socket and the one that handles them; iterate it.

    Full, `put` waits: then nothing more is read from the client, and TCP holds it back.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._events: deque[tuple[Event, int, float]] = deque()
        self._bytes = self._taken = 0
        self.arrived_at = time.monotonic()
        """When the event that was taken last arrived."""

        self._ended = False
        self._changed = asyncio.Event()

    @property
    def waiting(self) -> bool:
        """Whether there are events to take."""
        return bool(self._events)

    async def put(self, event: Event, wire_bytes: int) -> None:
        """Add an event that took `wire_bytes` on the wire; waits for room. After `end` it is dropped."""
        # An event may exceed the limit by its own size: otherwise one larger than the limit would never fit.
        while self._bytes >= self._max_bytes and not self._ended:
            await self._change()
        if self._ended:
            return
        size = _EVENT_BYTES + wire_bytes
        self._events.append((event, size, time.monotonic()))
        self._bytes += size
        self._changed.set()

    def end(self) -> None:
        """No more follows; the iteration ends after what is queued."""
        self._ended = True
        self._changed.set()

    def __aiter__(self) -> "EventQueue":
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            await self._change()
        # Many events are handled without waiting for anything: a queue full of them would hold the loop.
        self._taken += 1
        if self._taken % _YIELD_EVENTS == 0:
            await asyncio.sleep(0)
        event, size, self.arrived_at = self._events.popleft()
        self._bytes -= size
        self._changed.set()
        return event

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


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
        self._text_stream: TextBuffer | None = None
        self._events = EventQueue(_WAITING_BYTES)
        self._audio_failed = False
        """Whether the current stream of audio was answered with an error."""

    async def serve(self) -> None:
        """Read events until the client leaves, then cancel its requests.

        A client that closes only its own half still gets its answers. One that has gone altogether looks the same until
        the first of them: writing it fails, and the rest is dropped.
        """
        handling = begin_task(self._handle_events(), f"events {self._connection.peer}")
        answering = begin_task(self._peer.answer_requests(), f"answers {self._connection.peer}")
        try:
            async for event in self._connection:
                # Not queued: a client that checks whether the daemon lives must not wait for an engine.
                if event.type in ("describe", "ping"):
                    await self._safely(event, self._answer_at_once)
                else:
                    await self._events.put(event, self._connection.event_bytes)
            if not self._connection.was_reset:
                # In this order: only handling what was read shows which answers are still to come.
                self._events.end()
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
        """Handle events in order until the client sends no more, then complete its requests."""
        # What fails here is not a request but the client itself, so that nothing can be answered any more.
        try:
            async for event in self._events:
                await self._safely(event, self._dispatch)
            self._end_text()
            if self._listener is not None:
                await self._listener.finish()
            self._peer.complete()
        except ConnectionError:
            self._connection.abort()
        except ProtocolError as error:  # it does not read
            self._peer.log(error)
            self._connection.abort()

    async def _safely(self, event: Event, handle: Callable[[Event], Awaitable[None]]) -> None:
        """Handle `event`; a failure is answered with an `error` event, and the connection goes on.

        Raises `ConnectionError` and `ProtocolError` when the client has gone or does not read.
        """
        error = await self._peer.attempt(handle(event))
        if error is None:
            return
        if event.type == "audio-chunk":  # one error for a stream of audio, not one for each chunk
            if self._audio_failed:
                return
            self._audio_failed = True
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
            await self._listen(self._transcribe_listener(parsed(Transcribe.from_event, event)))
        elif Detect.is_type(event.type) and Stage.WAKE in self._served:
            await self._listen(self._wake_listener(parsed(Detect.from_event, event)))
        elif RunPipeline.is_type(event.type) and self._served == ALL_STAGES:
            request = parsed(RunPipeline.from_event, event)
            await self._listen(None)  # two runs at once would mix on the connection
            await self._listen(RunListener(self._peer, self._stages, self._bus, request))
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
            self._end_text()
            stream = self._new_text()
            self._speak(stream, start.voice, streaming=True)
            self._text_stream = stream
        elif SynthesizeChunk.is_type(event.type) and self._text_stream is not None:
            self._text_stream.add(parsed(SynthesizeChunk.from_event, event).text)
        elif SynthesizeStop.is_type(event.type) and self._text_stream is not None:
            self._end_text()
        elif Synthesize.is_type(event.type) and self._text_stream is None:
            # Inside a stream `synthesize` only repeats the text for servers that cannot stream.
            request = parsed(Synthesize.from_event, event)
            stream = self._new_text()
            stream.add(request.text)
            stream.end()
            self._speak(stream, request.voice, streaming=False)
        elif SynthesizeChunk.is_type(event.type) or SynthesizeStop.is_type(event.type):
            raise ProtocolError(f"{event.type} without synthesize-start")

    def _ask(self, text: str | None, context: dict[str, Any] | None, language: str | None) -> None:
        self._peer.request(lambda: answer(self._peer, self._stages, text or "", context, language))

    def _new_text(self) -> TextBuffer:
        return TextBuffer(self._stages.config.wyoming.max_text_characters, wait_seconds=_TEXT_WAIT_SECONDS)

    def _end_text(self) -> None:
        if self._text_stream is not None:
            self._text_stream.end()
            self._text_stream = None

    def _speak(self, text: TextBuffer, voice: SynthesizeVoice | None, *, streaming: bool) -> None:
        self._peer.request(lambda: speak(self._peer, self._stages, text, voice, streaming=streaming))

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
        """Use the engine of a program from now on: for wake words there are two, for other stages only one."""
        programs = info.selectable(self._stages.engines)
        if name not in programs:
            raise ProtocolError(
                f"unknown program '{shown(name)}'; {nearest(name, set(programs))}", code="unknown-program"
            )
        self._programs |= programs[name]

    async def _listen(self, listener: Listener | None) -> None:
        """Hand the audio to `listener` from now on."""
        # Replaced before the old one is closed, which may take a while: audio must not reach a closing listener.
        previous, self._listener = self._listener, listener
        self._converter = None
        self._audio_failed = False
        if previous is not None:
            await previous.close()

    async def _audio_start(self, source: AudioFormat) -> None:
        if self._listener is None:
            await self._listen(self._default_listener())
        self._converter = Converter(source)
        self._audio_failed = False
        assert self._listener is not None
        await self._listener.start()

    async def _audio(self, chunk: AudioChunk) -> None:
        source = AudioFormat(chunk.rate, chunk.width, chunk.channels)
        if self._converter is None or self._converter.source != source:
            # Clients may leave out `audio-start`, and change the format between chunks.
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
            # Resampling holds back the last samples until it knows what follows.
            await self._listener.feed(self._converter.flush(), None)
            self._converter = None
        await self._listener.stop()

    def _default_listener(self) -> Listener:
        """Return what audio without a request is for: speech to text, on a port without it wake words."""
        if Stage.STT in self._served:
            return self._transcribe_listener(Transcribe())
        if Stage.WAKE in self._served:
            return self._wake_listener(Detect())
        raise ProtocolError("this port takes no audio")

    def _transcribe_listener(self, request: Transcribe) -> TranscribeListener:
        return TranscribeListener(self._peer, self._stages, request, self._events)

    def _wake_listener(self, request: Detect) -> DetectListener:
        return DetectListener(self._peer, self._stages, request, self._programs.get(Stage.WAKE))
