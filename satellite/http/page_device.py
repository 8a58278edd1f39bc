"""The page of a room as the device of a conversation: what it is told, its loudspeaker, and the room itself."""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from satellite.audio.pcm import AudioFormat
from satellite.config.rooms import BrowserRoomSettings
from satellite.errors import Stage
from satellite.events import RunEvent, as_json
from satellite.http.outbox import Outbox
from satellite.http.room_frames import timer_frame
from satellite.rooms.conversation import Conversation
from satellite.rooms.device import Activity, Capabilities, RoomContext, RoomModes, room_request
from satellite.rooms.playback import Sounding
from satellite.rooms.room import BaseRoom, LinkState
from satellite.skills.timers.timers import TimerEvent, TimerEventKind
from satellite.tasks import Supervised, end_tasks

_PLAYED_SECONDS = 2.0
"""How much longer than its sound lasts a page may take to say that it has played it."""


INTERNAL_ERROR = 1011
"""Code with which a connection is closed whose conversation has failed (RFC 6455, 7.4.1)."""


class Page(Protocol):
    """The connection to a page."""

    @property
    def outbox(self) -> Outbox:
        """Return the frames that wait to be sent."""

    def send(self, **frame: object) -> None:
        """Send a frame of JSON."""

    def end(self, code: int) -> None:
        """Close it, with a code of the WebSocket protocol."""


class PageDevice:
    """One page while it is connected, with the conversation that is held there."""

    media_output = None

    def __init__(self, page: Page, room: BrowserRoomSettings, context: RoomContext, modes: RoomModes) -> None:
        self.capabilities = Capabilities(
            timers=True, speech_interrupts=room.interrupt_by == "speech", cancels_echo=True
        )
        self.output = PageOutput(page.outbox, lambda: self.conversation.own_sounding)
        self.conversation = Conversation(self, room, context, modes)
        self._page = page

    async def show(self, step: RunEvent, activity: Activity) -> None:
        """Send the step."""
        self._page.send(**as_json(step), activity=activity)

    async def show_timer(self, event: TimerEvent) -> None:
        """Send what has happened to the timer."""
        self._page.send(**timer_frame(event))

    async def interrupted(self, wake_word: str | None) -> None:
        """Do nothing: the steps of the next command follow."""

    async def stop_listening(self) -> None:
        """Do nothing: the microphone is heard all the time."""

    async def open_microphone(self) -> None:
        """Do nothing: the microphone is heard all the time."""

    async def set_muted(self, muted: bool) -> None:
        """Have the page send nothing, or again."""
        self._page.send(type="muted", muted=muted)

    async def set_volume(self, volume: float) -> bool:
        """Have the page play louder or softer."""
        self._page.send(type="volume", volume=volume)
        return True

    def fail(self) -> None:
        """Let the connection end; the page opens another one."""
        self._page.end(INTERNAL_ERROR)


class PageOutput:
    """The loudspeaker of a page, which reports each sound that it has played."""

    format: AudioFormat | None = None
    """The page takes any rate."""

    media_format = AudioFormat(44_100)
    paced = True

    def __init__(self, outbox: Outbox, sounding: Callable[[], Sounding | None]) -> None:
        """Play by frames in `outbox`; `sounding` returns what it is that sounds."""
        self.trouble = ""
        self._outbox = outbox
        self._sounding = sounding
        self._sound = 0
        self._played = 0
        """The latest sound that was heard to its end."""

        self._changed = asyncio.Event()

    async def start(self, layout: AudioFormat) -> float:
        """Announce a sound."""
        self._sound += 1
        frame = {"type": "sound", "sound": self._sound, "rate": layout.rate, "kind": self._sounding()}
        self._outbox.put(json.dumps(frame))
        return 0.0

    async def write(self, pcm: bytes) -> None:
        """Send some of it."""
        self._outbox.put(pcm)

    async def stop(self) -> None:
        """Say that this was all of it."""
        self._outbox.put(json.dumps({"type": "sound-end", "sound": self._sound}))

    async def played(self, left_seconds: float) -> None:
        """Wait until the page reports that it has played the sound, for little longer than that should take."""
        self.trouble = "the page does not play sound; touch it"
        with suppress(TimeoutError):
            async with asyncio.timeout(left_seconds + _PLAYED_SECONDS):
                while self._played < self._sound:
                    self._changed.clear()
                    await self._changed.wait()
                self.trouble = ""

    def drop(self) -> None:
        """Silence the page at once."""
        self._outbox.drop()
        self._outbox.put(json.dumps({"type": "silence"}))

    def note_played(self, sound: int) -> None:
        """The page has played `sound`."""
        self._played = max(self._played, min(sound, self._sound))
        self._changed.set()


class BrowserRoom(BaseRoom):
    """A room while its page is connected; the hub runs it."""

    def __init__(
        self, page: Page, settings: BrowserRoomSettings, context: RoomContext, modes: RoomModes, address: str
    ) -> None:
        super().__init__(settings, settings.uri, f"connected from {address}")
        self.state = LinkState.CONNECTED
        self.modes = modes
        self.device = PageDevice(page, settings, context, modes)
        self.capabilities = self.device.capabilities
        self._context = context

    @property
    def current(self) -> Conversation:
        """Return its conversation."""
        return self.device.conversation

    @property
    def wake_words(self) -> Sequence[str]:
        """Return what it listens for."""
        chosen = self.settings.wake_words
        return self._context.stages.config.wake.words if chosen is None else chosen

    async def run(self) -> None:
        """Listen and talk until cancelled."""
        parts: list[Supervised] = []
        ringing = self.current.ringing
        if ringing is not None:
            parts.append(self._context.stages.background.run(f"timers {self.settings.name}", ringing.run))
        try:
            await self.current.begin(room_request(self.settings, Stage.WAKE, Stage.TTS), restart=True)
            await asyncio.Future()
        finally:
            await end_tasks(*(part.task for part in parts))
            with suppress(ConnectionError):  # the page may read nothing any more
                await self.current.close()
                await self.current.end()  # the page may be there yet, and has another name

    def timers(self) -> Sequence[TimerEvent]:
        """Return what to show a page that was not there when the timers were set."""
        if self._context.scheduler is None:
            return ()
        timers = self._context.scheduler.timers
        mine = [timer for timer in timers.pending() if timer.place == self.settings.name]
        return [TimerEvent(TimerEventKind.UPDATED, timer, round(timers.left(timer))) for timer in mine]

    def _doing(self) -> str:
        return Activity.MUTED if self.modes.muted else self.current.activity
