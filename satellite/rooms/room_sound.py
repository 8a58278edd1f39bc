"""What sounds in one room, and what gives way to what: a timer or an announcement gives way to an answer."""

import asyncio
from collections.abc import AsyncIterable, Callable

from satellite.audio.pcm import CANONICAL, AudioFormat
from satellite.errors import SatelliteError, TextToSpeechError
from satellite.rooms.chimes import PLAIN, Cue, chime, cue_sound
from satellite.rooms.device import RoomModes
from satellite.rooms.mixer import Mixer
from satellite.rooms.playback import Playback, SharedSound, Sounding, SoundOutput
from satellite.tasks import begin_task, end_tasks, log_failure

_ANNOUNCED_SECONDS = 1.0
"""How much of an announcement has to be heard: one that a wake word cuts off before that is played again."""


_CALL_AHEAD_SECONDS = 0.08
"""How far a call is sent ahead: each of them is heard so much later."""

_MEDIA_AHEAD_SECONDS = 0.25
"""How far media is sent ahead at most: so much later it is quieter, and what is mixed into it is heard."""


class RoomSound:
    """The one owner of a room's playback."""

    def __init__(
        self,
        output: SoundOutput,
        media_output: SoundOutput | None,
        modes: RoomModes,
        ahead_seconds: Callable[[], float],
    ) -> None:
        """Play by `output`, and media by `media_output` if there is one; nothing while the room only listens."""
        self._output = output
        self._media_output = media_output or output
        self._modes = modes
        self._ahead_seconds = ahead_seconds
        self._playback = Playback(output, self._present_ahead_seconds)
        self._mixes = media_output is None
        self._media_playback = self._playback
        if not self._mixes:
            self._media_playback = Playback(self._media_output, self._media_ahead_seconds)
        self._mixer: Mixer | None = None
        self._media_turn = asyncio.Lock()
        self._wanted_media: object = None
        """What is played, or waits until it can begin: the latest."""

        self._media_task: asyncio.Task[None] | None = None
        self._voice: Playback | Mixer = self._playback
        """What plays answers and announcements."""

        self._answering = self._calling = False
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
        if self._answering:
            return Sounding.ANSWER
        return self._kind or (Sounding.MEDIA if self.plays_media else None)

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

    async def take_turn(self, *, quiet: bool = False) -> None:
        """Wait until an announcement may be heard, with `quiet` until none is, and hold others, as `hold` does."""
        while not self._free.is_set() or (quiet and self._foreground.locked()):
            await self._free.wait()  # another who waited may have taken it
            if quiet:
                async with self._foreground:
                    pass
        self.hold()

    def set_volume(self, volume: float) -> None:
        """Scale all sound, for a device without a volume of its own."""
        self._playback.gain.target = self._media_playback.gain.target = volume

    async def close(self) -> None:
        """Play no media any more; may be called twice."""
        if self._media_task is not None:
            await end_tasks(self._media_task)

    # Answers.

    def heard_seconds(self) -> float:
        """Return how much of the present, or the last, sound has been heard at most."""
        return self._voice.heard_seconds()

    async def say(self, layout: AudioFormat, pcm: bytes) -> None:
        """Play some of an answer; an announcement ends for it."""
        if not self._modes.listen_only:
            self.end_announcement()
            async with self._foreground:
                self._answering = True
                await self._voice.play(layout, pcm)

    async def cue(self, cue: Cue) -> None:
        """Play a short sound, and do not wait until it is heard."""
        if not self._modes.listen_only:
            async with self._foreground:
                await self._voice.cue(PLAIN, cue_sound(cue))

    async def finish_answer(self) -> None:
        """End an answer, and wait until it has been heard, or should have been."""
        if self._answering:
            await self._voice.finish()
            self._answering = False

    async def drained(self) -> None:
        """Wait until a device that plays at its own pace should have played the answer."""
        await self._voice.drained()

    async def silence_answer(self) -> None:
        """End an answer now, but not an announcement."""
        self._answering = False
        if self._announcement is None:
            await self._voice.silence()

    # Announcements.

    async def announce(self, sound: SharedSound, kind: Sounding, *, hold: bool = False) -> bool:
        """Play a sound while nobody speaks with the room, and return whether all of it was heard.

        Cancelling or failing silences it. So does a wake word, for good if its beginning was heard. With `hold` no
        other follows it before `release`. Raises `SatelliteError` where it cannot be heard.
        """
        while True:
            self.check_plays()
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
                        await self._voice.play(sound.format, pcm)
                    await self._voice.finish()
                finally:
                    self._announcement = None
        except (asyncio.CancelledError, TextToSpeechError):
            await self._voice.silence()
            raise
        except TimeoutError:
            heard_seconds = self._voice.heard_seconds()
            await self._voice.silence()
            return False if self._stopped or heard_seconds >= _ANNOUNCED_SECONDS else None
        finally:
            self._kind = None
        if self._output.trouble:
            raise SatelliteError(self._output.trouble, code="room-unreachable")
        return True

    # Calls.

    async def converse(self, said: AsyncIterable[bytes]) -> None:
        """Play what is `said` in a call, canonical audio, at once, after one chime and before another; media ends.

        It goes where media does: devices with two outputs may close their microphone for the other.
        """
        self.stop_media()
        if self._media_task is not None and not self._media_task.done():
            await asyncio.wait([self._media_task])
        playback, finished = self._media_playback, False
        async with self._foreground:
            self._calling = True
            try:
                await playback.play(CANONICAL, chime(CANONICAL))
                async for pcm in said:
                    await playback.play(CANONICAL, pcm)
                await playback.play(CANONICAL, chime(CANONICAL, falls=True))
                await playback.finish()
                finished = True
            finally:
                self._calling = False
                if not finished:
                    await playback.silence()

    # Media.

    async def play(self, media: SharedSound) -> None:
        """Play media, in place of other media; returns when it is over, replaced or stopped. Cancelling stops it.

        It is quieter while somebody speaks with the room, or something is said. Raises `SatelliteError` where it cannot
        be heard, and what `media` ends with.
        """
        self.check_plays()
        self.stop_media()
        self._wanted_media = media
        try:
            async with self._media_turn:
                mixer = await self._begin_media(media)
                if mixer is None:
                    return
                self._media_task = task = begin_task(mixer.run(media), "media")
                task.add_done_callback(self._media_ended)
                try:
                    await asyncio.wait([task])
                finally:
                    mixer.stop()  # cancelled; what is being said goes on
        finally:
            if self._wanted_media is media:
                self._wanted_media = None
        if task.cancelled():
            raise SatelliteError("the room has gone", code="room-unreachable")
        task.result()
        if self._media_output.trouble:
            raise SatelliteError(self._media_output.trouble, code="room-unreachable")

    def stop_media(self) -> bool:
        """End media, also such as waits until it can begin; return whether there was any."""
        there_was = self.plays_media or self._wanted_media is not None
        self._wanted_media = None
        if self._mixer is not None:
            self._mixer.stop()
        return there_was

    @property
    def plays_media(self) -> bool:
        """Whether media is played."""
        return self._mixer is not None and self._mixer.playing

    async def _begin_media(self, media: SharedSound) -> Mixer | None:
        """Return a mixer, where it takes what is said only once nothing is said; None if `media` is not wanted."""
        if self._media_task is not None and not self._media_task.done():
            await asyncio.wait([self._media_task])  # it was cancelled while something was said
        if not self._mixes and self._wanted_media is media:
            self._mixer = self._new_mixer()
        while self._wanted_media is media and self._mixer is None:
            await self._free.wait()
            async with self._foreground:
                if self._free.is_set() and self._wanted_media is media:
                    self._mixer = self._voice = self._new_mixer()
        return self._mixer

    def _new_mixer(self) -> Mixer:
        return Mixer(self._media_playback, self._media_output.media_format, self._ducks)

    def _media_ended(self, task: asyncio.Task[None]) -> None:
        self._mixer = None
        self._voice = self._playback
        log_failure(task)

    def _ducks(self) -> bool:
        return not self._free.is_set() or self._answering or self._kind is not None

    def _media_ahead_seconds(self) -> float:
        if self._calling:
            return _CALL_AHEAD_SECONDS
        return min(self._ahead_seconds(), _MEDIA_AHEAD_SECONDS)

    def _present_ahead_seconds(self) -> float:
        mixes = self._mixer is not None and self._mixes
        return self._media_ahead_seconds() if mixes or self._calling else self._ahead_seconds()

    def check_plays(self) -> None:
        """Raise `SatelliteError` where nothing may sound."""
        if self._modes.listen_only:
            raise SatelliteError("the room only listens, and plays nothing", code="room-listens-only")
