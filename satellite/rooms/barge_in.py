"""Barge-in: the wake word, "stop", or any speech interrupts an answer."""

import asyncio
from collections import deque
from dataclasses import dataclass

from satellite.audio.pcm import BYTES_PER_SECOND, seconds_of
from satellite.config.rooms import RoomSettings
from satellite.engines.protocols import VoiceActivityDetector
from satellite.errors import StageError
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.stages import Stages
from satellite.pipeline.wake_listener import WakeListener
from satellite.tasks import first_of

_CALL_BYTES = BYTES_PER_SECOND * 3 // 2
"""How much is heard again after an answer, in case a wake word was being said when it ended."""

_LEAST_WORD_SECONDS = 0.12
_LONGEST_WORD_SECONDS = 1.2
"""How long saying no more than "stop" takes; the answer itself, heard from the speaker, is longer."""

_SPEECH_WINDOWS = 12
_SPEECH_WINDOWS_SPOKEN = 9
"""So many of the last windows of 32 ms have to be speech: more than a cough, less than a word and a half."""

_WORD_END_SECONDS = 0.2
_WORD_BYTES = int((_LONGEST_WORD_SECONDS + 1) * BYTES_PER_SECOND)


@dataclass(frozen=True, slots=True)
class Interruption:
    """What interrupted an answer."""

    wake_word: str | None = None
    """The wake word, if it was one."""

    command_follows: bool = True
    """Whether the audio goes on with the next command; otherwise the answer only ends."""


class WakeWordInterrupter:
    """Listens for the wake word, and for "stop", while an answer is made and played."""

    def __init__(self, stages: Stages, room: RoomSettings, inbox: AudioInbox) -> None:
        self.last_heard = b""
        """The end of what was listened to."""

        self.speech_seconds = 0.0
        """How long somebody spoke, which may be the answer itself."""

        self._stages = stages
        self._room = room
        self._inbox = inbox
        self._words: asyncio.Queue[bytes] = asyncio.Queue(1)

    async def wait(self) -> Interruption:
        """Return the interruption. What was said after a wake word is put back into the inbox."""
        return await first_of("barge-in", self._wake_word(), self._stop())

    async def _wake_word(self) -> Interruption:
        engine = await self._stages.wake_engine()
        vad = await self._stages.engines.vad.get(self._stages.config.deadlines.load_seconds)
        words = _Words(vad, self._stages.config.vad.threshold)
        listener = WakeListener(await engine.stream(self._room.wake_words))
        try:
            async for pcm in self._inbox:
                self.last_heard = (self.last_heard + pcm)[-_CALL_BYTES:]
                if await listener.feed(pcm) and listener.detection is not None:
                    self._inbox.unread(listener.rest)
                    return Interruption(listener.detection.name)
                word = await words.feed(pcm)
                self.speech_seconds = words.speech_seconds
                # While one is transcribed others are skipped: the wake word must not wait for them.
                if word and not self._words.full():
                    self._words.put_nowait(word)
        finally:
            listener.close()
        return await asyncio.Future()  # no more audio: nothing will interrupt, and `_stop` may still find a word

    async def _stop(self) -> Interruption:
        while True:
            word = await self._words.get()
            try:
                heard = await self._stages.transcribe_pcm(word, self._room.language)
            except StageError:  # the answer goes on, and the next word may be understood
                continue
            if await self._stages.means_stop(heard.text, heard.language or self._room.language):
                return Interruption(command_follows=False)


async def interrupted_by_speech(stages: Stages, inbox: AudioInbox) -> Interruption:
    """Return once somebody clearly speaks, where the microphone does not hear the answer itself.

    What was said by then is put back into the inbox.
    """
    vad = await stages.engines.vad.get(stages.config.deadlines.load_seconds)
    stream = vad.stream()
    latest: deque[bool] = deque(maxlen=_SPEECH_WINDOWS)
    heard = b""
    async for pcm in inbox:
        heard = (heard + pcm)[-BYTES_PER_SECOND:]
        latest.extend(probability >= stages.config.vad.threshold for probability in await stream.feed(pcm))
        if sum(latest) >= _SPEECH_WINDOWS_SPOKEN:
            inbox.unread(heard)
            return Interruption()
    return await asyncio.Future()  # no more audio: nothing will interrupt


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
