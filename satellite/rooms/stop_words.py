"""The word "stop", and others that mean no more: said alone, they end what sounds, without a wake word."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from satellite.audio.pcm import BYTES_PER_SECOND, seconds_of
from satellite.config.rooms import RoomSettings
from satellite.engines.protocols import VoiceActivityDetector
from satellite.errors import StageError
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.stages import Stages
from satellite.tasks import Supervised, begin_task, end_tasks

_LOGGER = logging.getLogger(__name__)

_LEAST_WORD_SECONDS = 0.12
_LONGEST_WORD_SECONDS = 1.2
"""How long saying no more than "stop" takes; the answer itself, heard from the speaker, is longer."""

_WORD_END_SECONDS = 0.2
_WORD_BYTES = int((_LONGEST_WORD_SECONDS + 1) * BYTES_PER_SECOND)


class StopWords:
    """Cuts short utterances out of the audio of a room, and understands those that mean "stop"."""

    def __init__(self, stages: Stages, room: RoomSettings, vad: VoiceActivityDetector) -> None:
        self._stages = stages
        self._room = room
        self._cutter = _Words(vad, stages.config.vad.threshold)
        self._words: asyncio.Queue[bytes] = asyncio.Queue(1)

    @property
    def speech_seconds(self) -> float:
        """How long somebody spoke, which may be the sound of the room itself."""
        return self._cutter.speech_seconds

    async def feed(self, pcm: bytes) -> None:
        """Take canonical audio."""
        word = await self._cutter.feed(pcm)
        # While one is transcribed others are skipped: the wake word must not wait for them.
        if word and not self._words.full():
            self._words.put_nowait(word)

    async def said(self) -> None:
        """Return once "stop" was said, in any language of the house."""
        while not await self._means_stop(await self._words.get()):
            pass

    async def _means_stop(self, word: bytes) -> bool:
        try:
            heard = await self._stages.transcribe_pcm(word, self._room.language)
        except StageError:  # the sound goes on, and the next word may be understood
            return False
        # Of one word the language is often mistaken.
        languages = dict.fromkeys((heard.language, self._room.language, *self._stages.config.spoken_languages))
        for language in languages:
            if await self._stages.means_stop(heard.text, language or None):
                return True
        return False


class StopListener:
    """Listens for "stop" in one room while something sounds there, and at no other time."""

    def __init__(
        self, stages: Stages, room: RoomSettings, sounds: Callable[[], bool], stop: Callable[[], Awaitable[object]]
    ) -> None:
        """Call `stop` when it was said while `sounds()`."""
        self._stages = stages
        self._room = room
        self._sounds = sounds
        self._stop = stop
        self._inbox = AudioInbox()
        self._listening: Supervised | None = None

    async def hear(self, pcm: bytes) -> None:
        """Take canonical audio of the room, whatever happens there."""
        if not self._sounds():
            await self.close()
            return
        if self._listening is None or self._listening.task.done():
            self._inbox = AudioInbox()
            self._inbox.lossy = True  # a machine that is too slow must hear what is said now
            self._listening = self._stages.background.run(f"stop words {self._room.name}", self._listen)
        await self._inbox.put(pcm)

    async def close(self) -> None:
        """Listen no more; may be called twice."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await listening.stop()

    async def _listen(self) -> None:
        vad = await self._stages.engines.vad.get(self._stages.config.deadlines.load_seconds)
        words = StopWords(self._stages, self._room, vad)
        feeding = begin_task(self._feed(words), "stop words")
        try:
            await words.said()
        finally:
            await end_tasks(feeding)
        _LOGGER.info("room %s: stopped by voice", self._room.name, extra={"room": self._room.name})
        await self._stop()

    async def _feed(self, words: StopWords) -> None:
        async for pcm in self._inbox:
            await words.feed(pcm)


class _Words:
    """Cuts speech of a word or two out of the audio."""

    def __init__(self, vad: VoiceActivityDetector, threshold: float) -> None:
        self._stream = vad.stream()
        self._window_bytes = int(vad.window_seconds * BYTES_PER_SECOND)
        self._threshold = threshold
        self._pending = bytearray()
        self._pcm = bytearray()
        self._spoken_seconds = self._silence_seconds = 0.0
        self.speech_seconds = 0.0

    async def feed(self, pcm: bytes) -> bytes:
        """Return the latest words that ended in `pcm`, with a little silence around them; empty when none did."""
        self._pending += pcm
        found = b""
        for probability in await self._stream.feed(pcm):
            window = bytes(self._pending[: self._window_bytes])
            del self._pending[: self._window_bytes]
            found = self._advance(window, probability >= self._threshold) or found
        return found

    def _advance(self, window: bytes, is_speech: bool) -> bytes:
        self._pcm += window
        del self._pcm[:-_WORD_BYTES]
        if is_speech:
            self.speech_seconds += seconds_of(window)
            self._spoken_seconds += self._silence_seconds + seconds_of(window)
            self._silence_seconds = 0.0
        elif self._spoken_seconds:
            self._silence_seconds += seconds_of(window)
            if self._silence_seconds >= _WORD_END_SECONDS:
                return self._taken()
        return b""

    def _taken(self) -> bytes:
        found = _LEAST_WORD_SECONDS <= self._spoken_seconds <= _LONGEST_WORD_SECONDS
        pcm = bytes(self._pcm) if found else b""
        self._pcm.clear()
        self._spoken_seconds = self._silence_seconds = 0.0
        return pcm
