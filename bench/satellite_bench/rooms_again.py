"""Wake word detection on the recorded sound, which finds when a wake word can have been known first."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from satellite.audio.pcm import RATE, WIDTH, seconds_of
from satellite.config.settings import WakeSettings
from satellite.engines.wake.openwakeword import OpenWakeWordEngine
from satellite.engines.worker import Worker
from satellite.errors import SatelliteError, Stage
from satellite.models.catalogue import WAKE_WORDS
from satellite_bench.rooms import HeardAt

_STEP_SAMPLES = 256
_FRAME_SAMPLES = 1280
"""The engine decides every 80 ms. Where its frames began in the daemon is unknown: every step of this size is tried."""


@asynccontextmanager
async def listening_again(models: Path) -> AsyncIterator[HeardAt]:
    """Yield the function that detects, with an engine like the daemon's."""
    worker = Worker(Stage.WAKE)
    try:
        engine = OpenWakeWordEngine(
            WakeSettings(), models / "wake" / "openwakeword", WAKE_WORDS["openwakeword"], worker
        )
        await worker.run(engine.load)

        async def heard_at(chunks: Sequence[bytes], sent_at: Sequence[float]) -> float:
            tried = [await _heard_at(engine, chunks, sent_at, at) for at in range(0, _FRAME_SAMPLES, _STEP_SAMPLES)]
            found = [at for at in tried if at is not None]
            if not found:
                raise SatelliteError("the wake word that the daemon heard cannot be heard again", code="bench-rooms")
            return min(found)

        yield heard_at
    finally:
        worker.close()


async def _heard_at(
    engine: OpenWakeWordEngine, chunks: Sequence[bytes], sent_at: Sequence[float], skipped_samples: int
) -> float | None:
    """Return when the last wake word was known, if frames begin so many samples into the sound; None if not yet."""
    stream = await engine.stream(None)
    detections = await stream.feed(b"".join(chunks)[skipped_samples * WIDTH :])
    if not detections:
        return None
    decided_seconds = detections[-1].seconds + skipped_samples / RATE
    sent_seconds = 0.0
    for chunk, at in zip(chunks, sent_at, strict=True):
        sent_seconds += seconds_of(chunk)
        if sent_seconds >= decided_seconds:
            return at
    return sent_at[-1]
