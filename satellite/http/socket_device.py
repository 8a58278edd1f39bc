"""A client of `/ws` as the device of a conversation, by JSON frames and PCM sound."""

import asyncio
import json
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from satellite import __version__
from satellite.audio.pcm import RATE, AudioFormat, Converter
from satellite.config.rooms import RoomSettings
from satellite.errors import SatelliteError, Stage
from satellite.events import RunEnd, RunEvent, RunStart, as_json
from satellite.http.context import Context, new_conversation, run_request
from satellite.http.outbox import Outbox
from satellite.http.schemas import ConversationId, Language, SpokenText, Wire, parsed_frame
from satellite.rooms.arbitration import Arbiter
from satellite.rooms.conversation import Conversation
from satellite.rooms.device import Activity, Capabilities, RoomContext
from satellite.skills.timers.timers import TimerEvent

_OUTBOX_BYTES = 8 * 1024 * 1024
"""Some three minutes of sound."""

_OUTBOX_FRAMES = 10_000


class Hello(Wire):
    """Sets options of the conversation; at any time."""

    type: Literal["hello"]
    conversation_id: ConversationId | None = None
    language: Language | None = None
    speak: bool = True
    """Whether answers are spoken."""


class Ask(Wire):
    """A question as text."""

    type: Literal["text"]
    text: SpokenText


class Listen(Wire):
    """A voice command follows."""

    type: Literal["listen"]
    rate: int = Field(16_000, ge=8_000, le=96_000)
    """Samples a second of the sound that follows."""


class End(Wire):
    """The sound is over."""

    type: Literal["end"]


class Cancel(Wire):
    """Stop the answer."""

    type: Literal["cancel"]


ClientFrame = Hello | Ask | Listen | End | Cancel

_FRAMES: TypeAdapter[ClientFrame] = TypeAdapter(Annotated[ClientFrame, Field(discriminator="type")])


class SocketDevice:
    """Takes a client's frames, and puts ours into the outbox."""

    # Browsers cancel the echo of their own sound, so that what they hear is somebody who speaks.
    capabilities = Capabilities(speech_interrupts=True)
    media_output = None

    close_code: int | None = None
    """It is never closed for a reason of its own."""

    def __init__(self, context: Context, address: str) -> None:
        self.output = self.outbox = Outbox(_OUTBOX_BYTES, _OUTBOX_FRAMES)
        self._failed = asyncio.Event()
        self._context = context
        self._address = address
        self._hello = Hello(type="hello", conversation_id=new_conversation())
        # An arbiter of its own: a client that begins by a button competes with no room. Without timers nothing rings.
        room = RoomContext(context.stages, context.bus, Arbiter(0.0))
        self._conversation = Conversation(self, RoomSettings(name="browser", follow_up="never"), room)
        self._converter = Converter(AudioFormat())
        self._open_run = ""
        """The run whose end the client has not been sent."""

        self._leave_work: Callable[[], None] | None = None

    async def wait_failed(self) -> None:
        """Wait until the conversation cannot go on."""
        await self._failed.wait()

    def greet(self) -> None:
        """Send `ready`: the client may begin."""
        self._send("ready", **self._hello.model_dump(exclude={"type"}), rate=RATE, version=__version__)

    async def take(self, text: str) -> None:
        """Do what a text frame asks for; what is wrong with it becomes an `error` frame."""
        try:
            frame = parsed_frame(_FRAMES, text)
            if not isinstance(frame, End | Cancel):  # ending something costs nothing, and must always be possible
                self._context.rate.take(self._address)
            await self._do(frame)
        except SatelliteError as error:
            self._send("error", code=error.code, text=str(error))

    async def hear(self, sound: bytes) -> None:
        """Take 16-bit PCM: part of a command, or what is said while an answer is heard."""
        await self._conversation.hear(self._converter.convert(sound))

    async def close(self) -> None:
        """End what is under way; may be called twice."""
        await self._conversation.close()
        self._leave()

    async def show(self, step: RunEvent, activity: Activity) -> None:
        """Send the step."""
        if isinstance(step, RunStart):
            self._open_run = step.run.run_id
        elif isinstance(step, RunEnd):
            self._open_run = ""
        self.outbox.put(json.dumps(as_json(step)))

    async def show_timer(self, event: TimerEvent) -> None:
        """Do nothing: timers belong to rooms."""

    async def interrupted(self, wake_word: str | None) -> None:
        """Send `cancelled`, unless the run is over and only its sound is still heard."""
        self._cancelled(self._open_run)

    async def stop_listening(self) -> None:
        """Give back the run's place among those at work; the client knows by the run's events when to be silent."""
        self._leave()

    async def open_microphone(self) -> None:
        """Refuse: the client begins."""
        raise SatelliteError("the client has to begin", code="room-cannot-start")

    async def set_muted(self, muted: bool) -> None:
        """Do nothing: the client mutes itself."""

    async def set_volume(self, volume: float) -> bool:
        """Return False: the client has its own."""
        return False

    def fail(self) -> None:
        """Let the connection end."""
        self._failed.set()

    async def _do(self, frame: ClientFrame) -> None:
        match frame:
            case Hello():
                name = frame.conversation_id or self._hello.conversation_id
                self._hello = frame.model_copy(update={"conversation_id": name})
                self.greet()
            case Ask():
                self._context.check_length(frame.text)
                await self._begin(Stage.CHAT, frame.text)
            case Listen():
                self._converter = Converter(AudioFormat(frame.rate))  # without the rest of what was heard before
                await self._begin(Stage.STT)
            case End():
                self._conversation.end_audio()
            case Cancel():
                await self._stop()

    async def _begin(self, start: Stage, text: str = "") -> None:
        await self._stop()
        self._leave_work = self._context.work.enter()
        hello = self._hello
        end = Stage.TTS if hello.speak else Stage.CHAT
        request = run_request(
            self._address, hello.conversation_id, start=start, end=end, text=text, language=hello.language
        )
        self._open_run = request.run_id
        await self._conversation.begin(request)

    async def _stop(self) -> None:
        """Let the answer end, if there is one; of one that is over, only the sound that still waits is dropped."""
        run_id = self._open_run  # the run may send its own `run-end` while it is stopped
        await self._conversation.end()
        self._leave()
        self._cancelled(run_id)

    def _cancelled(self, run_id: str) -> None:
        if run_id:
            self._send("cancelled", run_id=run_id)
        if self._open_run:
            self._open_run = ""
            self._send(RunEnd.type, run_id=run_id, cancelled=True)

    def _leave(self) -> None:
        leave, self._leave_work = self._leave_work, None
        if leave is not None:
            leave()

    def _send(self, type_: str, **data: object) -> None:
        self.outbox.put(json.dumps({"type": type_, **data}))
