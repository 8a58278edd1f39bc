"""Sound on its way to a room, no faster than it is heard but for a small lead, so that it can be stopped."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from satellite.audio.pcm import AudioFormat, Converter
from satellite.errors import SatelliteError, TextToSpeechError

_CHUNK_BYTES = 2304
"""Audio handed on at once, about Home Assistant's 2048 and whole frames of 1, 2, 3, 4, 6, 8, 9 or 12 bytes."""

_PLAYED_SECONDS = 2.0
"""How much longer than its sound lasts a satellite may take to say that it has played it."""

_AHEAD_SECONDS = 10
"""How far an announcement is made ahead of what is heard of it."""

_KEPT_SECONDS = 120
"""How much of an announcement is kept for rooms that hear it later than others, the newest."""


class SoundOutput(Protocol):
    """Where a room's sound goes: a satellite's connection, or the host's own speaker."""

    @property
    def format(self) -> AudioFormat | None:
        """Return the format that it wants; None takes whatever a voice gives."""

    @property
    def paced(self) -> bool:
        """Return whether sound comes no faster than it is heard, and `played` says when that was.

        Without, all of it comes at once: the device plays it at its own pace, and tells nothing.
        """

    async def start(self, layout: AudioFormat) -> None:
        """Begin a sound."""

    async def write(self, layout: AudioFormat, pcm: bytes) -> None:
        """Take some of the sound, whole frames in the format that it was begun in."""

    async def stop(self) -> None:
        """There is no more of the sound."""

    async def played(self) -> None:
        """Return once the latest sound that was stopped has been heard, as far as that can be known."""

    def drop(self) -> None:
        """Take back what has not been heard, where that can be."""


class Making:
    """Takes sound piece by piece; every room hears it from its beginning, as fast as it plays or as it is made.

    It is made no further than a few seconds ahead of the room that has heard most of it, and kept for those that began
    later, such as one where somebody was speaking: for two minutes, which all but the longest announcements fit into.
    """

    def __init__(self, bytes_per_second: int) -> None:
        """Take sound of which a second takes so many bytes."""
        self._most_ahead_bytes = _AHEAD_SECONDS * bytes_per_second
        self._most_kept_bytes = _KEPT_SECONDS * bytes_per_second
        self._pieces: deque[bytes] = deque()
        self._kept_bytes = 0
        self._gone = 0  # pieces, from the beginning
        self._made_bytes = self._heard_bytes = 0
        self._over = False
        self._failure: SatelliteError | None = None
        self._changed = asyncio.Event()

    async def fill(self, sound: AsyncIterator[bytes]) -> None:
        """Take all of `sound`; what breaks it is raised in the rooms, behind what was made."""
        try:
            async for pcm in sound:
                self._take(pcm)
                while self._made_bytes - self._heard_bytes > self._most_ahead_bytes:
                    await self._changed.wait()
        except SatelliteError as error:
            self._failure = error
        finally:
            self._over = True
            self._tell()

    async def to(self, play: Callable[[bytes], Awaitable[None]]) -> None:
        """Hand the sound to `play` from its beginning to its end.

        Raises `TextToSpeechError` where that is not kept any more: others have heard too much of it by now.
        """
        at = heard_bytes = 0
        while at < self._gone + len(self._pieces) or not self._over:
            if at < self._gone:
                raise TextToSpeechError("the others were too far ahead to wait for", kind="timeout")
            if at < self._gone + len(self._pieces):
                pcm = self._pieces[at - self._gone]
                await play(pcm)
                at += 1
                heard_bytes += len(pcm)
                self._heard_bytes = max(self._heard_bytes, heard_bytes)
                self._tell()
            else:
                await self._changed.wait()
        if self._failure is not None:
            raise self._failure

    def _take(self, pcm: bytes) -> None:
        self._pieces.append(pcm)
        self._made_bytes += len(pcm)
        self._kept_bytes += len(pcm)
        while self._kept_bytes > self._most_kept_bytes:
            self._kept_bytes -= len(self._pieces.popleft())
            self._gone += 1
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Playback:
    """The sound of one room; one answer or announcement at a time."""

    def __init__(self, output: SoundOutput, lead_seconds: float) -> None:
        """Hand `output` sound no more than `lead_seconds` before it is heard."""
        self._output = output
        self._lead_seconds = lead_seconds if output.paced else math.inf
        self._began_at = 0.0
        self._sent_seconds = 0.0
        self._source: AudioFormat | None = None
        self._converter: Converter | None = None

    def heard_seconds(self) -> float:
        """Return how much of the present, or the last, sound has been heard at most."""
        if not self._sent_seconds:
            return 0.0
        return min(self._sent_seconds, asyncio.get_running_loop().time() - self._began_at)

    async def play(self, source: AudioFormat, pcm: bytes, more: Making | None = None) -> None:
        """Send `pcm`, then `more`; returns when all but the lead of it has been heard."""
        if self._source is None:
            await self._start(source)
        assert self._converter is not None
        await self._pace(self._converter.convert(pcm))
        if more is not None:
            await more.to(lambda piece: self.play(source, piece))

    async def finish(self) -> None:
        """End the sound and wait until it has been heard, or should have been."""
        if self._source is None or self._converter is None:
            return
        await self._pace(self._converter.flush())
        self._source = None
        await self._output.stop()
        if not self._output.paced:
            return
        left = self._sent_seconds - self.heard_seconds() + _PLAYED_SECONDS
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self._output.played()

    async def drained(self) -> None:
        """Wait until a device that plays at its own pace should have played the latest sound."""
        if not self._output.paced:
            await asyncio.sleep(self._sent_seconds - self.heard_seconds())

    async def silence(self) -> None:
        """End the sound now: what was not sent never will be."""
        self._output.drop()
        if self._source is not None:
            self._source = None
            await self._output.stop()

    async def _start(self, source: AudioFormat) -> None:
        self._converter = Converter(source, self._output.format or source)
        self._source = source
        self._sent_seconds = 0.0
        self._began_at = asyncio.get_running_loop().time()
        await self._output.start(self._converter.target)

    async def _pace(self, pcm: bytes) -> None:
        assert self._converter is not None
        target = self._converter.target
        for at in range(0, len(pcm), _CHUNK_BYTES):
            audio = pcm[at : at + _CHUNK_BYTES]
            seconds = len(audio) / (target.rate * target.frame_bytes)
            ahead = self._sent_seconds - (asyncio.get_running_loop().time() - self._began_at)
            if ahead < 0:  # the sound came too late: what is heard now began later
                self._began_at -= ahead
            elif ahead + seconds > self._lead_seconds:
                await asyncio.sleep(ahead + seconds - self._lead_seconds)
            await self._output.write(target, audio)
            self._sent_seconds += seconds
