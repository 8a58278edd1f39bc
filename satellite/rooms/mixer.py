"""Media in one room, such as music or a radio: quieter while something is said, which is mixed into it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from satellite.audio.gain import FADE_SECONDS, Gain, mixed
from satellite.audio.pcm import WIDTH, AudioFormat, Converter
from satellite.rooms.playback import Playback, SharedSound
from satellite.tasks import begin_task, end_tasks, failure_of

_DUCKED = 0.25
"""The loudness of media while somebody speaks, or something is said: -12 dB."""

_BLOCK_SECONDS = 0.02
_READ_SECONDS = 0.5
"""How much media is read ahead of what is played."""

_VOICE_SECONDS = 0.1
"""How much of a voice may wait to be mixed in: what is silenced is gone at once."""


class Mixer:
    """Plays media, and mixes a voice into it; it goes on without media until the voice has ended.

    To who speaks it is a `Playback`: `play`, `cue`, `finish`, `silence` and `heard_seconds` are those of the voice.
    """

    def __init__(self, playback: Playback, layout: AudioFormat, ducked: Callable[[], bool]) -> None:
        """Play by `playback`, in `layout`; media is quieter while `ducked()`, or the voice sounds."""
        self._playback = playback
        self._layout = replace(layout, width=WIDTH)
        self._ducked = ducked
        self._gain = Gain()
        self._media = bytearray()
        self._fading_bytes: int | None = None
        """How much more of the media is heard since it was stopped."""

        self._reader: asyncio.Task[None] | None = None
        self._voice = bytearray()
        self._converter: Converter | None = None
        """What converts the voice, while it sounds."""

        self._mixed_seconds = 0.0
        """How much of the voice was mixed in."""

        self._over = False
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()

    async def run(self, media: SharedSound) -> None:
        """Play `media` until it is over or stopped, and no voice sounds; raises what it ends with."""
        self._reader = reader = begin_task(self._read(media), "read media")
        reader.add_done_callback(lambda _: self._changed.set())
        finished = False
        try:
            while self.playing or self._converter is not None:
                self._changed.clear()
                if block := self._next_block():
                    await self._playback.play(self._layout, block)
                else:
                    await self._changed.wait()
            if self._fading_bytes is None:
                await self._playback.finish()
                finished = True
            else:  # it has faded away by then; what else a player has fetched must not be heard
                await asyncio.sleep(self._playback.left_seconds())
        finally:
            self._over = True
            self._taken.set()
            await end_tasks(reader)
            if not finished:
                await self._playback.silence()
        if reader.done() and self._fading_bytes is None and (failure := failure_of(reader)) is not None:
            raise failure

    @property
    def playing(self) -> bool:
        """Whether there is more of the media."""
        if self._fading_bytes is not None:
            return self._fading_bytes > 0 and bool(self._media)
        return bool(self._media) or self._reader is None or not self._reader.done()

    def stop(self) -> None:
        """Let the media fade away."""
        if self._fading_bytes is None:
            self._fading_bytes = self._bytes(FADE_SECONDS)
            self._changed.set()

    # The voice.

    def heard_seconds(self) -> float:
        """Return how much of the voice has been heard at most."""
        return max(0.0, self._mixed_seconds - self._playback.left_seconds())

    async def play(self, source: AudioFormat, pcm: bytes) -> None:
        """Mix `pcm` in; returns when nearly all of it was."""
        if self._converter is None:
            self._converter = Converter(source, self._layout)
            self._mixed_seconds = 0.0
        await self._mix(self._converter.convert(pcm), self._bytes(_VOICE_SECONDS))

    async def cue(self, source: AudioFormat, pcm: bytes) -> None:
        """Mix a short sound in."""
        if self._converter is None:
            await self.play(source, pcm)
            self._end_voice()

    async def finish(self) -> None:
        """End the voice, and wait until it should have been heard."""
        if self._converter is not None:
            await self._mix(self._converter.flush(), 0)
            await asyncio.sleep(self._playback.left_seconds())
            self._end_voice()

    async def silence(self) -> None:
        """End the voice now."""
        self._voice.clear()
        self._end_voice()

    async def drained(self) -> None:
        """Do nothing: `finish` has waited."""

    def _end_voice(self) -> None:
        self._converter = None
        self._changed.set()

    async def _mix(self, pcm: bytes, most_waiting: int) -> None:
        self._voice += pcm
        self._changed.set()
        while len(self._voice) > most_waiting and not self._over:
            self._taken.clear()
            await self._taken.wait()

    # The media.

    async def _read(self, media: SharedSound) -> None:
        converter = Converter(media.format, self._layout)
        async for pcm in media:
            self._media += converter.convert(pcm)
            self._changed.set()
            while len(self._media) > self._bytes(_READ_SECONDS):
                self._taken.clear()
                await self._taken.wait()
        self._media += converter.flush()

    def _next_block(self) -> bytes:
        """Return the sound that is heard next; empty if there is none yet."""
        self._taken.set()
        size = self._bytes(_BLOCK_SECONDS)
        voice = _taken(self._voice, size)
        self._mixed_seconds += len(voice) / self._bytes(1)
        if self._fading_bytes is None:
            self._gain.target = _DUCKED if self._ducked() or self._converter is not None else 1.0
            media = _taken(self._media, size)
        else:
            self._gain.target = 0.0
            media = _taken(self._media, min(size, self._fading_bytes))
            self._fading_bytes -= len(media)
        return mixed(self._gain.apply(media, self._layout), voice)

    def _bytes(self, seconds: float) -> int:
        return round(seconds * self._layout.rate) * self._layout.frame_bytes


def _taken(queue: bytearray, size: int) -> bytes:
    taken = bytes(queue[:size])
    del queue[:size]
    return taken
