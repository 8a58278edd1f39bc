"""Wake words for a client: `detect`, its audio, and the detections."""

import time
from collections.abc import Sequence

from wyoming.wake import Detect, Detection, NotDetected

from satellite.audio.pcm import seconds_of
from satellite.engines.protocols import Detection as HeardWord
from satellite.engines.protocols import WakeStream
from satellite.errors import SatelliteError, WakeWordError, in_words
from satellite.pipeline.stages import Stages
from satellite.services.peer import Listener, Peer
from satellite.tasks import attempt


class DetectListener(Listener):
    """`detect`: answers every wake word with `detection`, and audio without one with `not-detected`.

    A failure of the engine is reported once, and the engine tried again a little later: the client goes on sending, and
    must not stay without wake words.
    """

    def __init__(self, peer: Peer, stages: Stages, request: Detect, program: str | None) -> None:
        self._peer = peer
        self._stages = stages
        self._request = request
        self._program = program
        self._stream: WakeStream | None = None
        self._owed = True
        """Whether neither a detection nor an error was sent yet."""

        self._first_ms = 0
        self._fed_seconds = 0.0
        self._retry_at: float | None = None

    async def start(self) -> None:
        """Listen from the beginning of a new stream."""
        await self.close()
        await self._open()
        self._owed = True
        self._first_ms, self._fed_seconds = -1, 0.0

    async def _open(self) -> None:
        engine = await self._stages.wake_engine(self._program)
        self._stream = await engine.stream(self._request.names or None)
        self._retry_at = None

    async def feed(self, pcm: bytes, timestamp_ms: int | None) -> None:
        """Report the wake words in `pcm`; after an error, audio is ignored for a while."""
        if self._first_ms < 0:
            self._first_ms = timestamp_ms or 0
        result = await attempt(self._detect(pcm), "wake word", self._stages.config.deadlines.load_seconds)
        if not isinstance(result, Exception):
            await self._report(result)
            return
        # Whatever the failure is, the stream is lost, and the next one may work. `stop` then sends no `not-detected`,
        # since the error was the answer.
        self._drop()
        self._owed = False
        self._retry_at = time.monotonic() + self._stages.background.note("wake word of clients", result)
        if isinstance(result, SatelliteError):
            raise result
        raise WakeWordError(in_words(result)) from result

    async def _detect(self, pcm: bytes) -> Sequence[HeardWord]:
        if self._retry_at is not None and time.monotonic() >= self._retry_at:
            await self._open()
            # The new stream counts from its own beginning.
            self._first_ms += round(1000 * self._fed_seconds)
            self._fed_seconds = 0.0
        self._fed_seconds += seconds_of(pcm)
        return [] if self._stream is None else await self._stream.feed(pcm)

    async def stop(self) -> None:
        """The audio is over, or there was none."""
        try:
            if self._stream is not None:
                await self._report(await self._stream.end())
            if self._owed:
                await self._peer.send(NotDetected(context=self._request.context))
        finally:
            await self.close()

    async def close(self) -> None:
        """Forget the stream."""
        self._owed = False
        self._retry_at = None
        self._drop()

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def _report(self, detections: Sequence[HeardWord]) -> None:
        for detection in detections:
            self._owed = False
            self._stages.expect()
            at_ms = self._first_ms + round(detection.seconds * 1000)
            await self._peer.send(Detection(name=detection.name, timestamp=at_ms, context=self._request.context))
