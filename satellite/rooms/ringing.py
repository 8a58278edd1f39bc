"""The timers of one room: its device shows them, and the room rings for those that have ended."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from satellite.config.rooms import RoomSettings
from satellite.engines.protocols import VoiceChoice
from satellite.errors import ProtocolError, SatelliteError
from satellite.pipeline.stages import Stages
from satellite.rooms.chimes import PLAIN, chime
from satellite.rooms.playback import SharedSound
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.skills.timers.timers import Timer, TimerEvent, TimerEventKind
from satellite.skills.timers.wording import ended
from satellite.tasks import Supervised

_LOGGER = logging.getLogger(__name__)

PAUSE_SECONDS = 2.0
"""Between one ring and the next. The timers limit for how long a room rings."""

_RETRY_SECONDS = 5.0
"""Before the next attempt when a ring could not be heard."""

_CHIMES = 2


class Ringing:
    """Shows and rings while a device is connected; until it has rung once, a timer waits for the next connection."""

    def __init__(
        self,
        scheduler: TimerScheduler,
        stages: Stages,
        room: RoomSettings,
        show: Callable[[TimerEvent], Awaitable[None]],
        announce: Callable[[SharedSound], Awaitable[None]],
    ) -> None:
        """Show by `show`; ring by `announce`, which returns once that was heard; cancelling it silences it."""
        self._scheduler = scheduler
        self._stages = stages
        self._room = room
        self._show = show
        self._announce = announce
        self._ring: Supervised | None = None
        self._due: list[Timer] = []
        """What the present ring is for."""

    async def run(self) -> None:
        """Follow the timers of the room until cancelled, or the connection breaks."""
        try:
            while True:
                await self._follow()
        except (ConnectionError, ProtocolError):
            return
        finally:
            if (ring := self._stop()) is not None:
                await ring.stop()

    @property
    def active(self) -> bool:
        """Whether it rings, also between one ring and the next."""
        return self._ring is not None and not self._ring.task.done()

    def silence(self) -> bool:
        """Be silent, since somebody speaks with the room: they have heard what rings, and what was missed.

        Returns whether it rang.
        """
        active = self.active
        self._scheduler.timers.heard(self._scheduler.timers.missed(self._room.name))
        self._scheduler.timers.silence(self._room.name)
        self._stop()
        return active

    async def _follow(self) -> None:
        """Hand on events; ends when there were too many at once, so that `run` begins again with the present state."""
        with self._scheduler.subscribe(self._room.name) as events:
            async for event in events:
                await self._show(event)
                match event.kind:
                    case TimerEventKind.FINISHED | TimerEventKind.MISSED:
                        if self._ring is None or self._ring.task.done():
                            self._ring = self._stages.background.run(f"ring {self._room.name}", self._rings)
                    case TimerEventKind.SILENCED if not self._scheduler.timers.outstanding(self._room.name):
                        self._stop()

    def _stop(self) -> Supervised | None:
        """Fall silent; return what has to end."""
        # Forgotten before it has ended: a timer that ends at once begins a ring of its own, which is not cancelled.
        ring, self._ring = self._ring, None
        if ring is not None:
            ring.task.cancel()
        return ring

    async def _rings(self) -> None:
        await ring(self._stages, self._room, self._due_text, self._ring_once)

    def _due_text(self) -> tuple[str, str | None]:
        timers = self._scheduler.timers
        self._due = [event.timer for event in timers.outstanding(self._room.name)]
        text = " ".join(ended(timer, late=timers.late(timer)) for timer in self._due)
        return text, next((timer.language for timer in self._due), None)

    async def _ring_once(self, sound: SharedSound) -> float:
        try:
            await self._announce(sound)
        except (SatelliteError, ConnectionError) as error:
            _LOGGER.debug(
                "room %s: a timer could not ring: %s", self._room.name, error, extra={"room": self._room.name}
            )
            return _RETRY_SECONDS
        self._scheduler.timers.heard(self._due)
        return PAUSE_SECONDS


async def ring(
    stages: Stages,
    room: RoomSettings,
    text: Callable[[], tuple[str, str | None]],
    play: Callable[[SharedSound], Awaitable[float]],
) -> None:
    """Ring until `text` returns nothing to say; `play` returns how many seconds to wait after each ring.

    With the text, `text` returns its language, if it is known.
    """
    spoken, sound = "", SharedSound(PLAIN)
    while (due := text())[0]:
        if due[0] != spoken:
            spoken, sound = due[0], await _ring_sound(stages, room, *due)
        await asyncio.sleep(await play(sound))


async def _ring_sound(stages: Stages, room: RoomSettings, text: str, language: str | None) -> SharedSound:
    """Return chimes and the spoken text; the chimes alone where nothing can be spoken."""
    format_, spoken = PLAIN, b""
    try:
        speaker = await stages.speaker(VoiceChoice(room.voice, room.language, spoken=language))
        format_ = speaker.format
        async with aclosing(stages.speak(text, speaker)) as pieces:
            async for piece in pieces:
                spoken += piece.pcm
    except SatelliteError as error:
        _LOGGER.warning(
            "room %s: a timer rings without speech: [%s] %s",
            room.name,
            error.code,
            error,
            extra={"room": room.name, "code": error.code},
        )
    return SharedSound.complete(format_, chime(format_) * _CHIMES + spoken)


async def rung_by_device(_sound: SharedSound) -> None:
    """Do nothing: the device has been told that the timer has ended, and rings (`Capabilities.rings`)."""
