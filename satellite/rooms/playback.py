"""Sound on its way to a room: sent only a little before it is heard, so that it can be stopped."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from enum import StrEnum
from typing import Protocol, Self

from satellite.audio.gain import Gain
from satellite.audio.pcm import WIDTH, AudioFormat, Converter
from satellite.errors import SatelliteError, TextToSpeechError

_CHUNK_BYTES = 2304
"""Audio sent at once, about Home Assistant's 2048 and whole frames of 1, 2, 3, 4, 6, 8, 9 or 12 bytes."""

_AHEAD_SECONDS = 10
"""How far a shared sound is made ahead of the room that has played most of it."""

_KEPT_SECONDS = 120
"""How much of a shared sound is kept for rooms that play it later than others, the newest."""


class Sounding(StrEnum):
    """What sounds in a room, what is most important first."""

    ANSWER = "answer"
    CALL = "call"
    TIMER = "timer"
    ANNOUNCEMENT = "announcement"
    MEDIA = "media"


class SoundOutput(Protocol):
    """Where a room's sound goes: a satellite's connection, or the host's own speaker."""

    @property
    def format(self) -> AudioFormat | None:
        """Return the format that it wants; None takes whatever a voice gives."""

    @property
    def media_format(self) -> AudioFormat:
        """Return what media is converted to."""

    @property
    def paced(self) -> bool:
        """Return whether sound is sent at the pace at which it is heard, and `played` waits for its end.

        Otherwise all of it is sent at once, and the device plays it at its own pace, without a report.
        """

    async def start(self, layout: AudioFormat) -> float:
        """Begin a sound; return for how many seconds the device plays silence before it, to wake up a speaker."""

    async def write(self, pcm: bytes) -> None:
        """Take some of the sound, whole frames in the format that it was begun in."""

    async def stop(self) -> None:
        """There is no more of the sound."""

    async def played(self, left_seconds: float) -> None:
        """Return once the latest sound has been heard, as far as can be known; about `left_seconds` from now."""

    def drop(self) -> None:
        """Take back what has not been heard, where that can be."""

    @property
    def trouble(self) -> str:
        """Return why the latest sound was not heard; empty if it was, as far as is known."""


class SharedSound:
    """Sound that several rooms play from its beginning, each at its own pace, while it is still being made.

    It is made only a few seconds ahead of the room that has played most of it, and kept for those that begin later,
    such as one where somebody was speaking: two minutes of it, which all but the longest announcements fit into.
    """

    def __init__(self, layout: AudioFormat) -> None:
        self.format = layout
        bytes_per_second = layout.rate * layout.frame_bytes
        self._most_ahead_bytes = _AHEAD_SECONDS * bytes_per_second
        self._most_kept_bytes = _KEPT_SECONDS * bytes_per_second
        self._pieces: deque[bytes] = deque()
        self._kept_bytes = 0
        self._discarded = 0  # pieces, from the beginning
        self._made_bytes = self._played_bytes = 0
        self._ended = False
        self._failure: SatelliteError | None = None
        self._changed = asyncio.Event()

    @classmethod
    def complete(cls, layout: AudioFormat, pcm: bytes) -> Self:
        """Return a sound that is made already."""
        sound = cls(layout)
        sound.add(pcm)
        sound.end()
        return sound

    def add(self, pcm: bytes) -> None:
        """Add a piece at the end."""
        self._pieces.append(pcm)
        self._made_bytes += len(pcm)
        self._kept_bytes += len(pcm)
        while self._kept_bytes > self._most_kept_bytes and len(self._pieces) > 1:
            self._kept_bytes -= len(self._pieces.popleft())
            self._discarded += 1
        self._notify()

    def end(self, failure: SatelliteError | None = None) -> None:
        """There are no more pieces; `failure` is raised in every room after the last one."""
        self._failure = failure
        self._ended = True
        self._notify()

    async def fill(self, pieces: AsyncIterator[bytes]) -> None:
        """Add all of `pieces`, and end with what they raise."""
        failure: SatelliteError | None = None
        try:
            async for pcm in pieces:
                self.add(pcm)
                while self._made_bytes - self._played_bytes > self._most_ahead_bytes:
                    await self._changed.wait()
        except SatelliteError as error:
            failure = error
        finally:  # also when cancelled: the rooms wait for the end
            self.end(failure)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces from the first to the last; one counts as played once the next is asked for.

        Raises `TextToSpeechError` where a piece is not kept any more, since others have played too much by now.
        """
        at = played_bytes = 0
        while True:
            if at < self._discarded:
                raise TextToSpeechError("the others were too far ahead to wait for", kind="timeout")
            if at < self._discarded + len(self._pieces):
                pcm = self._pieces[at - self._discarded]
                yield pcm
                at += 1
                played_bytes += len(pcm)
                self._played_bytes = max(self._played_bytes, played_bytes)
                self._notify()
            elif self._ended:
                break
            else:
                await self._changed.wait()
        if self._failure is not None:
            raise self._failure

    def _notify(self) -> None:
        # Another event for each change: clearing this one could lose it for a task that has not run yet.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Playback:
    """The sound of one room; one answer or announcement at a time."""

    def __init__(self, output: SoundOutput, ahead_seconds: Callable[[], float]) -> None:
        """Hand `output` sound no more than `ahead_seconds()` before it is heard: a reload may change it at any time."""
        self.gain = Gain()
        """Scales all sound."""

        self._output = output
        self._ahead_seconds = ahead_seconds if output.paced else lambda: math.inf
        self._began_at = 0.0
        self._sent_seconds = 0.0
        self._source: AudioFormat | None = None
        self._converter: Converter | None = None
        self._widened = Converter(AudioFormat())
        """From 16 bits a sample to what the output takes."""

    def heard_seconds(self) -> float:
        """Return how much of the present, or the last, sound has been heard at most."""
        if not self._sent_seconds:
            return 0.0
        return max(0.0, min(self._sent_seconds, asyncio.get_running_loop().time() - self._began_at))

    async def play(self, source: AudioFormat, pcm: bytes) -> None:
        """Send `pcm`; returns when all has been heard but what is sent ahead."""
        if self._source is None:
            await self._start(source)
        assert self._converter is not None
        await self._pace(self._converter.convert(pcm))

    async def cue(self, source: AudioFormat, pcm: bytes) -> None:
        """Send a short sound of its own, and do not wait until it is heard; not in the middle of another."""
        if self._source is None:
            await self.play(source, pcm)
            if self._converter is not None:
                await self._pace(self._converter.flush())
            self._source = None
            self._sent_seconds = 0.0  # nothing of an answer has been heard
            await self._output.stop()

    async def finish(self) -> None:
        """End the sound and wait until it has been heard, or should have been."""
        if self._source is None or self._converter is None:
            return
        await self._pace(self._converter.flush())
        self._source = None
        await self._output.stop()
        if self._output.paced:
            await self._output.played(self.left_seconds())

    async def drained(self) -> None:
        """Wait until a device that plays at its own pace should have played the latest sound."""
        if not self._output.paced:
            await asyncio.sleep(self.left_seconds())

    async def silence(self) -> None:
        """End the sound now: what was not sent never will be."""
        self._output.drop()
        if self._source is not None:
            self._source = None
            await self._output.stop()

    def left_seconds(self) -> float:
        """Return how long what was sent goes on."""
        return max(0.0, self._began_at + self._sent_seconds - asyncio.get_running_loop().time())

    async def _start(self, source: AudioFormat) -> None:
        target = self._output.format or source
        self._converter = Converter(source, replace(target, width=WIDTH))
        self._widened = Converter(self._converter.target, target)
        self._source = source
        self._sent_seconds = 0.0
        self.gain.settle()
        lead_in_seconds = await self._output.start(target)
        self._began_at = asyncio.get_running_loop().time() + lead_in_seconds

    async def _pace(self, pcm: bytes) -> None:
        assert self._converter is not None
        target = self._converter.target
        for at in range(0, len(pcm), _CHUNK_BYTES):
            audio = pcm[at : at + _CHUNK_BYTES]
            seconds = len(audio) / (target.rate * target.frame_bytes)
            ahead = self._sent_seconds - (asyncio.get_running_loop().time() - self._began_at)
            if ahead < 0:  # the sound came too late: what is heard now began later
                self._began_at -= ahead
            elif ahead + seconds > (most := self._ahead_seconds()):
                await asyncio.sleep(ahead + seconds - most)
            await self._output.write(self._widened.convert(self.gain.apply(audio, target)))
            self._sent_seconds += seconds
