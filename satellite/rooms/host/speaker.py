"""The host's speaker: one utterance after the other, each told of when it has been heard, all of it dropped at once."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from wyoming.audio import AudioChunk, AudioStart
from wyoming.event import Event

from satellite.audio.pcm import AudioFormat, Converter
from satellite.errors import SatelliteError
from satellite.rooms.host.sound_outputs import Sink
from satellite.tasks import begin_task, end_tasks, failure_of, first_of
from satellite.wire.parsing import parsed

_LOGGER = logging.getLogger(__name__)

_FRAME_SECONDS = 0.02
"""How finely sound is handed on: it can be silenced between two frames."""

_MOST_BYTES = 16 * 1024 * 1024
"""Sound that may wait, some six minutes of a voice: Home Assistant sends all of an answer at once. More is dropped."""

_MOST_UTTERANCES = 32


class Utterance:
    """Sound from its start to its stop."""

    def __init__(self, layout: AudioFormat, played: Callable[[], Awaitable[None]] | None, owner: object) -> None:
        self.format = layout
        self.owner = owner
        self.played = played
        """Called once it has been heard, or cannot be; not if it was dropped."""

        self.dropped = False
        self.over = asyncio.Event()
        """It has been heard, or never will be."""

        self.ended = asyncio.Event()
        self.waiting_bytes = 0
        self._lost = False
        self._taken = asyncio.Event()
        self._chunks: deque[bytes] = deque()
        self._news = asyncio.Event()

    def feed(self, pcm: bytes) -> None:
        """Add sound."""
        if not (self.dropped or self._lost or self.over.is_set()):
            self._chunks.append(pcm)
            self.waiting_bytes += len(pcm)
            self._news.set()

    def end(self) -> None:
        """There is no more sound."""
        self.ended.set()
        self._news.set()

    def drop(self) -> None:
        """Be silent."""
        self.dropped = True
        self.lose()
        self.finish()

    def lose(self) -> None:
        """Forget the sound that waits, and what will still come: nothing can play it."""
        self._lost = True
        self._chunks.clear()
        self.waiting_bytes = 0
        self._taken.set()

    def finish(self) -> None:
        """It has been heard, or never will be."""
        self.over.set()
        self._taken.set()

    async def played_down_to(self, seconds: float) -> None:
        """Wait until no more than `seconds` of sound wait to be heard, or none will be."""
        most_bytes = seconds * self.format.rate * self.format.frame_bytes
        while self.waiting_bytes > most_bytes and not self.over.is_set():
            self._taken.clear()
            await self._taken.wait()

    async def next(self) -> bytes | None:
        """Return more sound, None at its end."""
        while not self._chunks:
            if self.ended.is_set():
                return None
            self._news.clear()
            await self._news.wait()
        pcm = self._chunks.popleft()
        self.waiting_bytes -= len(pcm)
        self._taken.set()
        return pcm


class Speaker:
    """Plays what it is given; `run` it for as long as the room is there."""

    def __init__(self, sink: Sink, words: str) -> None:
        self._sink = sink
        self._words = words
        self.trouble = ""
        """Why nothing is heard; empty while all is well, or nothing was tried."""

        self._queue: deque[Utterance] = deque()
        self._current: Utterance | None = None
        self._playing: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    def begin(
        self, layout: AudioFormat, played: Callable[[], Awaitable[None]] | None = None, owner: object = None
    ) -> Utterance:
        """Begin an utterance, which is heard after those before it."""
        utterance = Utterance(layout, played, owner)
        if len(self._queue) >= _MOST_UTTERANCES:
            utterance.drop()
        else:
            self._queue.append(utterance)
            self._news.set()
        return utterance

    def feed(self, utterance: Utterance, pcm: bytes) -> None:
        """Add to an utterance, unless too much waits already."""
        waiting = [*self._queue, *([self._current] if self._current else [])]
        if sum(one.waiting_bytes for one in waiting) + len(pcm) <= _MOST_BYTES:
            utterance.feed(pcm)

    def drop(self, owner: object = None) -> bool:
        """Silence, now, the utterances of `owner`, or all; return whether there were any."""
        waiting = [*self._queue, *([self._current] if self._current else [])]
        dropped = [one for one in waiting if owner in (None, one.owner)]
        for utterance in dropped:
            utterance.drop()
        self._queue = deque(one for one in self._queue if not one.dropped)
        if self._playing is not None and self._current in dropped:
            self._sink.silence()
            self._playing.cancel()
        return bool(dropped)

    async def run(self) -> None:
        """Play until cancelled; a sink that fails costs its utterance, and is tried anew with the next one."""
        try:
            while True:
                while not self._queue:
                    self._news.clear()
                    await self._news.wait()
                self._current = self._queue.popleft()
                await self._finish(self._current)
                self._current = None
        finally:
            self.drop()
            if self._playing is not None:
                await end_tasks(self._playing)
            await self._sink.release()

    async def _finish(self, utterance: Utterance) -> None:
        self._playing = begin_task(self._play(utterance), "utterance")
        await asyncio.wait([self._playing])
        task, self._playing = self._playing, None
        if (error := failure_of(task)) is not None:
            self._fail(error)
            utterance.lose()
            await first_of("end of an utterance", utterance.ended.wait(), utterance.over.wait())
        utterance.finish()
        if not utterance.dropped and utterance.played is not None:
            await utterance.played()

    async def _play(self, utterance: Utterance) -> None:
        try:
            taken = await self._sink.open(utterance.format)
            converter = Converter(utterance.format, taken)
            frame_bytes = int(taken.rate * _FRAME_SECONDS) * taken.frame_bytes
            while (pcm := await utterance.next()) is not None:
                await self._write(converter.convert(pcm), frame_bytes)
            await self._write(converter.flush(), frame_bytes)
            await self._sink.finish()
            if self.trouble:
                _LOGGER.info("the speaker %s is back", self._words)
            self.trouble = ""
        finally:
            await self._sink.close()

    async def _write(self, pcm: bytes, frame_bytes: int) -> None:
        for at in range(0, len(pcm), frame_bytes):
            await self._sink.write(pcm[at : at + frame_bytes])

    def _fail(self, error: BaseException) -> None:
        if not isinstance(error, SatelliteError | OSError):
            _LOGGER.error("the speaker %s: an unexpected failure", self._words, exc_info=error)
        elif not self.trouble:
            _LOGGER.warning("nothing is heard: %s", error)
        self.trouble = str(error)


class SoundEvents:
    """Plays Wyoming's audio events on a speaker, and tells when each utterance of theirs has been heard."""

    def __init__(self, speaker: Speaker | None, played: Callable[[], Awaitable[None]]) -> None:
        self._speaker = speaker
        self._played = played
        self._utterance: Utterance | None = None

    def take(self, event: Event) -> None:
        """Take an event; all but `audio-start`, `audio-chunk` and `audio-stop` are ignored."""
        if self._speaker is None:
            return
        match event.type:
            case "audio-start":
                self._end()
                start = parsed(AudioStart.from_event, event)
                self._begin(self._speaker, AudioFormat(start.rate, start.width, start.channels))
            case "audio-chunk":
                chunk = parsed(AudioChunk.from_event, event)
                utterance = self._utterance or self._begin(
                    self._speaker, AudioFormat(chunk.rate, chunk.width, chunk.channels)
                )
                self._speaker.feed(utterance, chunk.audio)
            case "audio-stop":
                self._end()

    def drop(self) -> bool:
        """Silence what came by these events; what still comes of the present utterance is not heard either."""
        return self._speaker is not None and self._speaker.drop(self)

    def _begin(self, speaker: Speaker, layout: AudioFormat) -> Utterance:
        self._utterance = speaker.begin(layout, self._played, self)
        return self._utterance

    def _end(self) -> None:
        utterance, self._utterance = self._utterance, None
        if utterance is not None:
            utterance.end()


class SpeakerOutput:
    """The speaker as the output of a conversation, one utterance for each sound; without a speaker nothing is heard."""

    format: AudioFormat | None = None
    """The speaker takes any."""

    paced = True

    def __init__(self, speaker: Speaker | None) -> None:
        self._speaker = speaker
        self._utterance: Utterance | None = None

    async def start(self, layout: AudioFormat) -> None:
        """Begin an utterance."""
        if self._speaker is not None:
            self._utterance = self._speaker.begin(layout, owner=self)

    async def write(self, layout: AudioFormat, pcm: bytes) -> None:
        """Add to it."""
        if self._speaker is not None and self._utterance is not None:
            self._speaker.feed(self._utterance, pcm)

    async def stop(self) -> None:
        """End it."""
        if self._utterance is not None:
            self._utterance.end()

    async def played(self) -> None:
        """Wait until it has been heard, or cannot be."""
        if self._utterance is not None:
            await self._utterance.over.wait()

    def drop(self) -> None:
        """Silence it at once."""
        if self._speaker is not None:
            self._speaker.drop(self)
