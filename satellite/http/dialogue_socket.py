"""One client's conversation over `/ws`: what it says begins runs, what it says amid an answer ends it."""

import asyncio
import json
import time
from typing import Any

from pydantic import ValidationError

from satellite import __version__
from satellite.audio.pcm import RATE, AudioFormat, Converter
from satellite.errors import ProtocolError, SatelliteError, Stage
from satellite.events import RunEvent, RunEventType
from satellite.http.chat_api import check_length
from satellite.http.context import Context, new_conversation, run_request
from satellite.http.frames import FRAMES, Ask, Cancel, ClientFrame, End, Hello, Listen
from satellite.http.outbox import Outbox
from satellite.http.speak_up import BargeIn
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.request import RunRequest, Speech
from satellite.pipeline.run import Run
from satellite.tasks import begin_task, end_tasks

_FRAME_BYTES = 32 * 1024
"""Sound a frame: an event can slip between two."""

_OUTBOX_BYTES = 8 * 1024 * 1024
"""Some three minutes of sound."""

_OUTBOX_FRAMES = 10_000

_HEARD = (RunEventType.STT_VAD_END, RunEventType.STT_END, RunEventType.ERROR, RunEventType.RUN_END)
"""Steps from which on the sound of the client is not part of a command."""


class Talk:
    """Takes a client's frames, and puts ours into the outbox."""

    def __init__(self, context: Context, address: str) -> None:
        self.outbox = Outbox(_OUTBOX_BYTES, _OUTBOX_FRAMES)
        self._context = context
        self._address = address
        self._hello = Hello(type="hello", conversation_id=new_conversation())
        self._run: asyncio.Task[None] | None = None
        self._under_way = ""
        """The run whose end has not been told."""

        self._inbox = AudioInbox()
        self._listens = False
        self._converter = Converter(AudioFormat())
        self._barge_in: BargeIn | None = None
        self._sound_began = self._sound_seconds = 0.0

    def greet(self) -> None:
        """Tell the client that it may begin."""
        hello = self._hello
        self._tell(
            "ready",
            conversation_id=hello.conversation_id,
            language=hello.language,
            speak=hello.speak,
            rate=RATE,
            version=__version__,
        )

    async def take(self, text: str) -> None:
        """Do what a text frame asks for; what is wrong with it is told."""
        try:
            frame = _parsed(text)
            if not isinstance(frame, End | Cancel):
                self._context.rate.take(self._address)
            await self._do(frame)
        except SatelliteError as error:
            self._tell("error", code=error.code, text=str(error))

    async def hear(self, sound: bytes) -> None:
        """Take 16-bit PCM: part of a command, or what is said while an answer is heard."""
        pcm = self._converter.convert(sound)
        if self._listens:
            await self._inbox.put(pcm)
        elif self._answers:
            if self._barge_in is None:
                config = self._context.config
                vad = await self._context.stages.engines.vad.get(config.deadlines.load_seconds)
                self._barge_in = BargeIn(vad, config.vad.threshold)
            if said := await self._barge_in.feed(pcm):
                await self._listen(said)

    async def close(self) -> None:
        """End what is under way; may be called twice."""
        run, self._run = self._run, None
        if run is not None:
            await end_tasks(run)

    async def _do(self, frame: ClientFrame) -> None:
        match frame:
            case Hello():
                name = frame.conversation_id or self._hello.conversation_id
                self._hello = frame.model_copy(update={"conversation_id": name})
                self.greet()
            case Ask():
                check_length(self._context, frame.text)
                await self._stop()
                self._begin(self._request(Stage.CHAT, frame.text))
            case Listen():
                self._converter = Converter(AudioFormat(frame.rate))
                await self._listen(b"")
            case End():
                self._inbox.end()
            case Cancel():
                await self._stop()

    @property
    def _answers(self) -> bool:
        """Whether an answer is made, or heard if the client plays it as it comes."""
        return self._run is not None or time.monotonic() < self._sound_began + self._sound_seconds

    async def _listen(self, said: bytes) -> None:
        """Begin a voice command with what was `said` of it already."""
        await self._stop()
        self._inbox = AudioInbox()
        self._inbox.unread(said)
        self._listens = True
        self._context.stages.expect(f"conversation {self._hello.conversation_id}")
        self._begin(self._request(Stage.STT))

    async def _stop(self) -> None:
        """Let the answer end, if there is one; of one that is over, only the sound that still waits goes."""
        run_id = self._under_way
        await self.close()
        self._listens = False
        self._sound_seconds = 0.0
        self.outbox.drop_sound()
        if run_id:
            self._tell("cancelled", run_id=run_id)
        if self._under_way:
            self._under_way = ""
            self._tell(RunEventType.RUN_END, run_id=run_id, cancelled=True)

    def _request(self, start: Stage, text: str = "") -> RunRequest:
        hello = self._hello
        end = Stage.TTS if hello.speak else Stage.CHAT
        return run_request(
            self._address, hello.conversation_id, start=start, end=end, text=text, language=hello.language
        )

    def _begin(self, request: RunRequest) -> None:
        self._barge_in = None
        self._under_way = request.run_id
        self._run = begin_task(self._execute(request), f"run {request.room}")

    async def _execute(self, request: RunRequest) -> None:
        context = self._context
        run = Run(context.stages, context.bus, request, self._emit, heard_seconds=self._heard_seconds)
        try:
            with context.work.one():
                await run.execute(self._inbox)
        except SatelliteError as error:
            self._under_way = ""  # it has not begun
            self._tell("error", code=error.code, text=str(error))
        except ConnectionError:
            return  # it does not read; whoever sends sees the same
        finally:
            self._listens = False
            if self._run is asyncio.current_task():
                self._run = None

    async def _emit(self, step: RunEvent | Speech) -> None:
        """Put a step of the run into the outbox; never waits."""
        if isinstance(step, Speech):
            self._sound(step)
            return
        if step.type in _HEARD:
            self._listens = False
        if step.type is RunEventType.RUN_END:
            self._under_way = ""
        if step.type is RunEventType.TTS_START:
            self._sound_began, self._sound_seconds = time.monotonic(), 0.0
        self._tell(step.type, run_id=step.run_id, **step.data)

    def _sound(self, speech: Speech) -> None:
        self._sound_seconds += len(speech.pcm) / (speech.format.rate * speech.format.frame_bytes)
        for at in range(0, len(speech.pcm), _FRAME_BYTES):
            self.outbox.put(speech.pcm[at : at + _FRAME_BYTES])

    def _heard_seconds(self) -> float:
        """Return how much of the answer was heard, if the client plays it as it comes."""
        return min(self._sound_seconds, time.monotonic() - self._sound_began)

    def _tell(self, type_: str, **data: Any) -> None:
        self.outbox.put(json.dumps({"type": type_, **data}))


def _parsed(text: str) -> ClientFrame:
    try:
        return FRAMES.validate_json(text)
    except ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}".lstrip(": ") for one in error.errors()[:5])
        raise ProtocolError(what[:500]) from None
