"""The timers of one room: its device shows them, and the room rings for those that have ended."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from satellite.audio.pcm import AudioFormat
from satellite.config.rooms import RoomSettings
from satellite.engines.protocols import VoiceChoice
from satellite.errors import ProtocolError, SatelliteError
from satellite.pipeline.stages import Stages
from satellite.rooms.chime import chime
from satellite.skills.timers.scheduler import TimerScheduler
from satellite.skills.timers.timer import Timer, TimerEvent, TimerEventKind
from satellite.skills.timers.wording import ended
from satellite.tasks import Supervised

_LOGGER = logging.getLogger(__name__)

PAUSE_SECONDS = 2.0
"""Between one ring and the next; for how long it rings at most, the timers know."""

_AGAIN_SECONDS = 5.0
"""When it is tried again after it could not be heard."""

_CHIMES = 2
_PLAIN = AudioFormat(22050, 2, 1)
"""The format of a chime without words."""


class Ringing:
    """Shows and rings while a device is connected; until it has rung once, a timer waits for the next connection."""

    def __init__(
        self,
        scheduler: TimerScheduler,
        stages: Stages,
        room: RoomSettings,
        show: Callable[[TimerEvent], Awaitable[None]],
        announce: Callable[[AudioFormat, bytes], Awaitable[None]],
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

    def silence(self) -> None:
        """Be silent, since somebody speaks with the room: they have heard what rings, and what was missed."""
        self._scheduler.timers.heard(self._scheduler.timers.missed(self._room.name))
        self._scheduler.timers.silence(self._room.name)
        self._stop()

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
        ring, self._ring = self._ring, None
        if ring is not None:
            ring.task.cancel()
        return ring

    async def _rings(self) -> None:
        await ring(self._stages, self._room, self._due_words, self._ring_once)

    def _due_words(self) -> str:
        timers = self._scheduler.timers
        self._due = [event.timer for event in timers.outstanding(self._room.name)]
        return " ".join(ended(timer, late=timers.late(timer)) for timer in self._due)

    async def _ring_once(self, layout: AudioFormat, pcm: bytes) -> float:
        try:
            await self._announce(layout, pcm)
        except (SatelliteError, ConnectionError) as error:
            _LOGGER.debug(
                "room %s: a timer could not ring: %s", self._room.name, error, extra={"room": self._room.name}
            )
            return _AGAIN_SECONDS
        self._scheduler.timers.heard(self._due)
        return PAUSE_SECONDS


async def ring(
    stages: Stages,
    room: RoomSettings,
    words: Callable[[], str],
    play: Callable[[AudioFormat, bytes], Awaitable[float]],
) -> None:
    """Ring until `words` returns none; `play` returns how many seconds to wait after each ring."""
    spoken, sound = "", (_PLAIN, b"")
    while due := words():
        if due != spoken:
            spoken, sound = due, await ring_sound(stages, room, due)
        await asyncio.sleep(await play(*sound))


async def ring_sound(stages: Stages, room: RoomSettings, words: str) -> tuple[AudioFormat, bytes]:
    """Return chimes and words; the chimes alone where nothing can be spoken."""
    format_, spoken = _PLAIN, b""
    try:
        speaker = await stages.speaker(VoiceChoice(room.voice, room.language))
        format_ = speaker.format
        async with aclosing(stages.speak(words, speaker)) as pieces:
            async for piece in pieces:
                spoken += piece.pcm
    except SatelliteError as error:
        _LOGGER.warning(
            "room %s: a timer rings without words: [%s] %s",
            room.name,
            error.code,
            error,
            extra={"room": room.name, "code": error.code},
        )
    return format_, chime(format_) * _CHIMES + spoken
