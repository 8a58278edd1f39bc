"""Barge-in: the wake word, "stop", or any speech interrupts an answer."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from satellite.audio.pcm import BYTES_PER_SECOND
from satellite.config.rooms import RoomSettings
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.stages import Stages
from satellite.pipeline.wake_listener import WakeListener
from satellite.rooms.stop_words import StopWords
from satellite.tasks import first_of

_CALL_BYTES = BYTES_PER_SECOND * 3 // 2
"""How much is heard again after an answer, in case a wake word was being said when it ended."""

_SPEECH_WINDOWS = 12
_SPEECH_WINDOWS_SPOKEN = 9
"""So many of the last windows of 32 ms have to be speech: more than a cough, less than a word and a half."""

_ECHO_SECONDS = 1.0
_ECHO_SHARE = 0.2
"""So much speech is heard in the time of an answer of at least such a length by a microphone that hears its sound."""


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

    async def wait(self) -> Interruption:
        """Return the interruption. What was said after a wake word is put back into the inbox."""
        vad = await self._stages.engines.vad.get(self._stages.config.deadlines.load_seconds)
        words = StopWords(self._stages, self._room, vad)
        return await first_of("barge-in", self._wake_word(words), self._stop(words))

    async def _wake_word(self, words: StopWords) -> Interruption:
        engine = await self._stages.wake_engine()
        listener = WakeListener(await engine.stream(self._room.wake_words))
        try:
            async for pcm in self._inbox:
                self.last_heard = (self.last_heard + pcm)[-_CALL_BYTES:]
                if await listener.feed(pcm) and listener.detection is not None:
                    self._inbox.unread(listener.rest)
                    return Interruption(listener.detection.name)
                await words.feed(pcm)
                self.speech_seconds = words.speech_seconds
        finally:
            listener.close()
        return await asyncio.Future()  # no more audio: nothing will interrupt, and `_stop` may still find a word

    async def _stop(self, words: StopWords) -> Interruption:
        await words.said()
        return Interruption(command_follows=False)


class BargeIn:
    """What interrupts the answers in one room, and whether its microphone hears them."""

    def __init__(self, stages: Stages, room: RoomSettings, *, speech_interrupts: bool) -> None:
        """With `speech_interrupts` any speech does, else the wake word, and "stop"."""
        self.hears_itself: bool | None = not speech_interrupts
        """Whether the microphone hears the room's own sound; None once an answer has shown that it does not."""

        self.last_heard = b""
        """The end of what was listened to, in which a wake word may have begun."""

        self._stages = stages
        self._room = room
        self._speech_interrupts = speech_interrupts

    async def wait(self, inbox: AudioInbox, sounded_seconds: Callable[[], float]) -> Interruption:
        """Return the next interruption; `sounded_seconds` returns how much of the answer was heard."""
        if self._speech_interrupts:
            return await interrupted_by_speech(self._stages, inbox)
        interrupter = WakeWordInterrupter(self._stages, self._room, inbox)
        try:
            return await interrupter.wait()
        finally:
            self.last_heard = interrupter.last_heard
            if (seconds := sounded_seconds()) >= _ECHO_SECONDS:
                self.hears_itself = True if interrupter.speech_seconds >= _ECHO_SHARE * seconds else None

    def suspect_echo(self) -> None:
        """What went on after the end of a command may have been the answer: the next one shows."""
        if not self._speech_interrupts:
            self.hears_itself = True


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
