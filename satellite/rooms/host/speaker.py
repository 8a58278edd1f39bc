"""The host's speaker: it plays one utterance after the other, and all that waits can be dropped at once."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from satellite.audio.pcm import AudioFormat, Converter
from satellite.config.host import SoundDeviceSettings
from satellite.errors import SatelliteError
from satellite.rooms.host.sinks import sink
from satellite.rooms.lead_in import LeadIn
from satellite.tasks import begin_task, end_tasks, failure_of, first_of

_LOGGER = logging.getLogger(__name__)

_FRAME_SECONDS = 0.02
"""How finely sound is handed on: it can be silenced between two frames."""

_MOST_BYTES = 16 * 1024 * 1024
"""Sound that may wait, some six minutes of a voice: Home Assistant sends all of an answer at once. More is dropped."""

_MOST_UTTERANCES = 32


class Utterance:
    """Sound from its start to its stop."""

    def __init__(
        self,
        layout: AudioFormat,
        played: Callable[[], Awaitable[None]] | None,
        owner: object,
        patience_seconds: float | None,
    ) -> None:
        self.format = layout
        self.owner = owner
        self.played = played
        """Called once it has been heard, or cannot be; not if it was dropped."""

        self.dropped = False
        self.over = asyncio.Event()
        """It has been heard, or never will be."""

        self.ended = asyncio.Event()
        self.waiting_bytes = 0
        self._patience_seconds = patience_seconds
        self._lost = False
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue()

    def feed(self, pcm: bytes) -> None:
        """Add sound."""
        if pcm and not (self._lost or self.over.is_set()):
            self._chunks.put_nowait(pcm)
            self.waiting_bytes += len(pcm)

    def end(self) -> None:
        """There is no more sound."""
        self.ended.set()
        self._chunks.put_nowait(b"")

    def drop(self) -> None:
        """Be silent."""
        self.dropped = True
        self.lose()
        self.over.set()

    def lose(self) -> None:
        """Forget the sound that waits, and what will still come: nothing can play it."""
        self._lost = True
        self._chunks = asyncio.Queue()
        self.waiting_bytes = 0

    async def next(self) -> bytes:
        """Return more sound, nothing at its end, or where none comes any more."""
        try:
            async with asyncio.timeout(self._patience_seconds):
                pcm = await self._chunks.get()
        except TimeoutError:
            return b""
        self.waiting_bytes -= len(pcm)
        return pcm


class HostSpeaker:
    """Plays what it is given; `run` it for as long as the room is there."""

    def __init__(self, settings: SoundDeviceSettings, lead_in_seconds: float = 0.0) -> None:
        """Play on the device of `settings`, with `lead_in_seconds` of silence first where it has to wake up."""
        self.lead_in = LeadIn(lead_in_seconds)
        self._sink = sink(settings)
        self._name = settings.label
        self.trouble = ""
        """Why nothing is heard; empty while all is well, or nothing was tried."""

        self._queue: deque[Utterance] = deque()
        self._current: Utterance | None = None
        self._playing: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    @property
    def busy(self) -> bool:
        """Whether something is played, or waits to be."""
        return bool(self._waiting())

    def begin(
        self,
        layout: AudioFormat,
        played: Callable[[], Awaitable[None]] | None = None,
        owner: object = None,
        patience_seconds: float | None = None,
    ) -> Utterance:
        """Begin an utterance, which is heard after those before it; it ends if nothing comes for `patience_seconds`."""
        utterance = Utterance(layout, played, owner, patience_seconds)
        if len(self._queue) >= _MOST_UTTERANCES:
            utterance.drop()
        else:
            self._queue.append(utterance)
            self._changed.set()
        return utterance

    def feed(self, utterance: Utterance, pcm: bytes) -> None:
        """Add to an utterance, unless too much waits already."""
        # Dropped rather than waited for: the reader of a connection also has to see the event that silences it.
        if sum(one.waiting_bytes for one in self._waiting()) + len(pcm) <= _MOST_BYTES:
            utterance.feed(pcm)

    async def play(self, layout: AudioFormat, pcm: bytes) -> None:
        """Play a whole utterance; returns when it has been heard, or dropped. Cancelling it silences it."""
        utterance = self.begin(layout, owner=(owner := object()))
        self.feed(utterance, pcm)
        utterance.end()
        try:
            await utterance.over.wait()
        except asyncio.CancelledError:
            self.drop(owner)
            raise

    def drop(self, owner: object = None) -> bool:
        """Silence, now, the utterances of `owner`, or all; return whether there were any."""
        dropped = [one for one in self._waiting() if owner in (None, one.owner)]
        for utterance in dropped:
            utterance.drop()
        self._queue = deque(one for one in self._queue if not one.dropped)
        if self._playing is not None and self._current in dropped:
            self._playing.cancel()  # which closes the sink, and with it kills what a process has not played yet
        return bool(dropped)

    async def run(self) -> None:
        """Play until cancelled; a sink that fails loses its utterance, and is reopened for the next one."""
        try:
            while True:
                while not self._queue:
                    self._changed.clear()
                    await self._changed.wait()
                self._current = self._queue.popleft()
                await self._finish(self._current)
                self._current = None
        finally:
            self.drop()
            if self._playing is not None:
                await end_tasks(self._playing)
            await self._sink.release()

    def _waiting(self) -> list[Utterance]:
        return [*self._queue, *([self._current] if self._current else [])]

    async def _finish(self, utterance: Utterance) -> None:
        # A task of its own, so that dropping the utterance cancels it and not the speaker.
        self._playing = begin_task(self._play(utterance), "utterance")
        await asyncio.wait([self._playing])
        task, self._playing = self._playing, None
        if (error := failure_of(task)) is not None:
            self._fail(error)
            utterance.lose()
            # The sender counts on `played` after its last sound, not in the middle of it.
            await first_of("end of an utterance", utterance.ended.wait(), utterance.over.wait())
        utterance.over.set()
        if not utterance.dropped and utterance.played is not None:
            await utterance.played()

    async def _play(self, utterance: Utterance) -> None:
        try:
            taken = await self._sink.open(utterance.format)
            converter = Converter(utterance.format, taken)
            frame_bytes = int(taken.rate * _FRAME_SECONDS) * taken.frame_bytes
            await self._write(self.lead_in.begin(taken), frame_bytes)
            while pcm := await utterance.next():
                await self._write(converter.convert(pcm), frame_bytes)
            await self._write(converter.flush(), frame_bytes)
            await self._sink.finish()
            if self.trouble:
                _LOGGER.info("the speaker %s works again", self._name)
            self.trouble = ""
        finally:
            self.lead_in.end()
            await self._sink.close()

    async def _write(self, pcm: bytes, frame_bytes: int) -> None:
        for at in range(0, len(pcm), frame_bytes):
            await self._sink.write(pcm[at : at + frame_bytes])

    def _fail(self, error: BaseException) -> None:
        if not isinstance(error, SatelliteError | OSError):
            _LOGGER.error("the speaker %s: an unexpected failure", self._name, exc_info=error)
        elif not self.trouble:
            _LOGGER.warning("the speaker plays nothing: %s", error)
        self.trouble = str(error)


class SpeakerOutput:
    """The speaker as the output of a conversation, one utterance for each sound."""

    format: AudioFormat | None = None
    """The speaker takes any."""

    media_format = AudioFormat(44_100)
    paced = True

    def __init__(self, speaker: HostSpeaker) -> None:
        self._speaker = speaker
        self._utterance: Utterance | None = None

    async def start(self, layout: AudioFormat) -> float:
        """Begin an utterance; return how long the speaker wakes up first."""
        lead_in_seconds = self._speaker.lead_in.due_seconds
        self._utterance = self._speaker.begin(layout, owner=self)
        return lead_in_seconds

    async def write(self, pcm: bytes) -> None:
        """Add to it."""
        if self._utterance is not None:
            self._speaker.feed(self._utterance, pcm)

    async def stop(self) -> None:
        """End it."""
        if self._utterance is not None:
            self._utterance.end()

    async def played(self, left_seconds: float) -> None:
        """Wait until it has been heard, or cannot be.

        That may take longer than it lasts, by what another program plays before it; the speaker ends or drops all.
        """
        if self._utterance is not None:
            await self._utterance.over.wait()

    @property
    def trouble(self) -> str:
        """Return why nothing is heard."""
        return self._speaker.trouble

    def drop(self) -> None:
        """Silence it at once."""
        self._speaker.drop(self)
