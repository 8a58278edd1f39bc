"""Listening for the wake word: at the beginning of a run, during an answer, and while a command may go on."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, suppress

from satellite.audio.pcm import audio_after, seconds_of
from satellite.engines.protocols import Detection, WakeStream
from satellite.errors import StageError, WakeWordError
from satellite.pipeline.audio_queue import AudioInbox
from satellite.pipeline.stages import Stages


class WakeListener:
    """Hears a wake word in canonical audio, fed in order, and knows what follows it; close it in the end."""

    def __init__(self, stream: WakeStream) -> None:
        self.detection: Detection | None = None
        """The wake word, once one was heard."""

        self.rest = b""
        """What follows it in the audio that was fed last."""

        self._stream = stream
        self._fed_seconds = 0.0

    async def feed(self, pcm: bytes) -> bool:
        """Advance, and return whether a wake word ends in `pcm`."""
        self._fed_seconds += seconds_of(pcm)
        return self._found(pcm, await self._stream.feed(pcm))

    async def end(self) -> bool:
        """Return whether a wake word ends in what was left over; the audio is at its end."""
        return self._found(b"", await self._stream.end())

    def close(self) -> None:
        """Give up the stream; may be called twice."""
        self._stream.close()

    def _found(self, pcm: bytes, detections: Sequence[Detection]) -> bool:
        if detections:
            self.detection = detections[0]
            self.rest = audio_after(pcm, self._fed_seconds, self.detection.seconds)
        return bool(detections)


async def wait_for_wake_word(stages: Stages, audio: AudioInbox, names: Sequence[str] | None) -> Detection:
    """Return the wake word that is heard first, with what follows it left in `audio`; raises `WakeWordError`."""
    engine = await stages.wake_engine()
    listener = WakeListener(await engine.stream(names))
    audio.lossy = True  # an engine that is too slow must hear what is said now
    try:
        limit = asyncio.timeout(stages.config.deadlines.wake_seconds or None)
        async with limit, aclosing(aiter(audio)) as chunks:
            async for pcm in chunks:
                if await listener.feed(pcm):
                    break
            else:
                await listener.end()
    except TimeoutError as error:
        raise WakeWordError("no wake word was heard in time", kind="timeout") from error
    finally:
        audio.lossy = False  # at once, so that nothing of what follows the wake word is dropped
        listener.close()
    if listener.detection is None:
        raise WakeWordError("the audio ended before a wake word was heard", kind="not-detected")
    audio.unread(listener.rest)
    return listener.detection


class LaterWakeWord:
    """Listens for a wake word in audio that may belong to a command; an engine that fails is done without."""

    def __init__(self, stages: Stages, names: Sequence[str] | None) -> None:
        """Listen for nothing yet."""
        self._stages = stages
        self._names = names
        self._listener: WakeListener | None = None

    @property
    def detection(self) -> Detection | None:
        """The wake word, once one was heard."""
        return None if self._listener is None else self._listener.detection

    async def begin(self) -> None:
        """Listen from now on, where an engine is loaded; a second call changes nothing."""
        if self._listener is None and self._stages.hears_wake_words:
            with suppress(StageError):
                engine = await self._stages.wake_engine()
                self._listener = WakeListener(await engine.stream(self._names))

    async def feed(self, pcm: bytes) -> None:
        """Advance by canonical audio."""
        if self._listener is not None:
            try:
                await self._listener.feed(pcm)
            except StageError:
                self.take()

    def take(self) -> bytes:
        """Return what follows the wake word in the latest audio, and listen no longer."""
        listener, self._listener = self._listener, None
        if listener is None:
            return b""
        listener.close()
        return listener.rest
