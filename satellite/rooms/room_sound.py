"""What sounds in one room, and what gives way to what: a timer or an announcement gives way to an answer."""

import asyncio
from collections.abc import Callable
from enum import StrEnum

from satellite.audio.pcm import AudioFormat
from satellite.errors import SatelliteError, TextToSpeechError
from satellite.rooms.chimes import PLAIN, Cue, cue_sound
from satellite.rooms.device import RoomModes
from satellite.rooms.playback import Playback, SharedSound, SoundOutput

_ANNOUNCED_SECONDS = 1.0
"""How much of an announcement has to be heard: one that a wake word cuts off before that is played again."""


class Sounding(StrEnum):
    """What sounds in a room, what is most important first."""

    ANSWER = "answer"
    TIMER = "timer"
    ANNOUNCEMENT = "announcement"


class RoomSound:
    """The one owner of a room's playback."""

    def __init__(self, output: SoundOutput, modes: RoomModes, ahead_seconds: Callable[[], float]) -> None:
        """Play by `output`, nothing while `modes` has the room only listen."""
        self._output = output
        self._modes = modes
        self._playback = Playback(output, ahead_seconds)
        self._answering = False
        self._free = asyncio.Event()
        """Set while an announcement may be heard."""

        self._free.set()
        self._freeing: asyncio.TimerHandle | None = None
        self._foreground = asyncio.Lock()
        self._kind: Sounding | None = None
        """What is announced."""

        self._announcement: asyncio.Timeout | None = None
        """Ends what is announced."""

        self._stopped = False
        """Whether somebody has ended it who wants to hear no more of it."""

    @property
    def sounding(self) -> Sounding | None:
        """What sounds."""
        return Sounding.ANSWER if self._answering else self._kind

    def hold(self) -> None:
        """Let no announcement begin until `release`; one that is heard goes on."""
        self._free.clear()
        if self._freeing is not None:
            self._freeing.cancel()

    def release(self, after_seconds: float = 0.0) -> None:
        """Let announcements begin, at once or later."""
        self.hold()
        if after_seconds:
            self._freeing = asyncio.get_running_loop().call_later(after_seconds, self._free.set)
        else:
            self._free.set()

    async def take_turn(self) -> None:
        """Wait until an announcement may be heard, and hold others, as `hold` does."""
        await self._free.wait()
        self.hold()

    def set_volume(self, volume: float) -> None:
        """Scale all sound, for a device without a volume of its own."""
        self._playback.gain.target = volume

    # Answers.

    def heard_seconds(self) -> float:
        """Return how much of the present, or the last, sound has been heard at most."""
        return self._playback.heard_seconds()

    async def say(self, layout: AudioFormat, pcm: bytes) -> None:
        """Play some of an answer; an announcement ends for it."""
        if not self._modes.listen_only:
            self.end_announcement()
            async with self._foreground:
                self._answering = True
                await self._playback.play(layout, pcm)

    async def cue(self, cue: Cue) -> None:
        """Play a short sound, and do not wait until it is heard."""
        if not self._modes.listen_only:
            async with self._foreground:
                await self._playback.cue(PLAIN, cue_sound(cue))

    async def finish_answer(self) -> None:
        """End an answer, and wait until it has been heard, or should have been."""
        if self._answering:
            await self._playback.finish()
            self._answering = False

    async def drained(self) -> None:
        """Wait until a device that plays at its own pace should have played the answer."""
        await self._playback.drained()

    async def silence_answer(self) -> None:
        """End an answer now, but not an announcement."""
        self._answering = False
        if self._announcement is None:
            await self._playback.silence()

    # Announcements.

    async def announce(self, sound: SharedSound, kind: Sounding, *, hold: bool = False) -> bool:
        """Play a sound while nobody speaks with the room, and return whether all of it was heard.

        Cancelling or failing silences it. So does a wake word, for good if its beginning was heard. With `hold` no
        other follows it before `release`. Raises `SatelliteError` where it cannot be heard.
        """
        while True:
            if self._modes.listen_only:
                raise SatelliteError("the room only listens, and plays nothing", code="room-listens-only")
            await self._free.wait()
            async with self._foreground:
                # A command may have begun while another announcement was played.
                heard = await self._announced(sound, kind) if self._free.is_set() else None
                if heard and hold:
                    self.hold()
            if heard is not None:
                return heard

    async def ring(self, sound: SharedSound) -> None:
        """Play the sound of a timer that has ended, as an announcement."""
        await self.announce(sound, Sounding.TIMER)

    def end_announcement(self, *, stopped: bool = False) -> bool:
        """End what is announced, and return whether there was anything; `stopped` ends it for good."""
        # Wake word and command may both come here before the announcement's task runs: a timeout expires only once.
        announcement, self._announcement = self._announcement, None
        if announcement is None:
            return False
        self._stopped = stopped
        announcement.reschedule(asyncio.get_running_loop().time())
        return True

    async def _announced(self, sound: SharedSound, kind: Sounding) -> bool | None:
        """Play an announcement, and return whether all of it was heard; None if it has to be repeated."""
        self._kind = kind
        self._stopped = False
        try:
            async with asyncio.timeout(None) as self._announcement:
                try:
                    async for pcm in sound:
                        await self._playback.play(sound.format, pcm)
                    await self._playback.finish()
                finally:
                    self._announcement = None
        except (asyncio.CancelledError, TextToSpeechError):
            await self._playback.silence()
            raise
        except TimeoutError:
            heard_seconds = self._playback.heard_seconds()
            await self._playback.silence()
            return False if self._stopped or heard_seconds >= _ANNOUNCED_SECONDS else None
        finally:
            self._kind = None
        if self._output.trouble:
            raise SatelliteError(self._output.trouble, code="room-unreachable")
        return True
