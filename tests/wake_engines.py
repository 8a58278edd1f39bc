"""Both wake word engines with their real models, and recordings of their words."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from satellite.audio.pcm import RATE, read_wav
from satellite.config.settings import WakeSettings
from satellite.engines.protocols import Detection
from satellite.engines.wake.common import Floats
from satellite.engines.wake.microwakeword import MicroWakeWordEngine
from satellite.engines.wake.openwakeword import OpenWakeWordEngine
from satellite.engines.worker import Worker
from satellite.errors import Stage
from satellite.models.catalogue import WAKE_WORDS

DATA = Path(__file__).parent / "data" / "wake"
SPOKEN = ("okay_nabu", "hey_jarvis", "alexa")
RECORDINGS = (*SPOKEN, "not_a_wake_word_computer")

Engine = OpenWakeWordEngine | MicroWakeWordEngine
Load = Callable[..., Engine]
"""Returns a loaded engine for the settings of `wake` that are given by name."""


def recording(name: str) -> bytes:
    """Return a recording's PCM, or three seconds of loud white noise."""
    if name == "white":
        return np.random.default_rng(1).integers(-20_000, 20_000, 3 * RATE).astype(np.int16).tobytes()
    return read_wav(DATA / f"{name}.wav")


def engine(program: str, models: Path, worker: Worker, **wake: object) -> Engine:
    """Return an engine that is not loaded."""
    settings = WakeSettings.model_validate(wake)
    if program == "microwakeword":
        return MicroWakeWordEngine(settings, worker)
    return OpenWakeWordEngine(settings, models / "wake" / "openwakeword", WAKE_WORDS["openwakeword"], worker)


@contextmanager
def loader(program: str, models: Path) -> Iterator[Load]:
    """Load engines whose threads end with the context."""
    workers: list[Worker] = []

    def load(**wake: object) -> Engine:
        workers.append(Worker(Stage.WAKE))
        loaded = engine(program, models, workers[-1], **wake)
        loaded.load()
        return loaded

    yield load
    for worker in workers:
        worker.close()


async def detect(engine: Engine, pcm: bytes, names: Sequence[str] | None, chunk: int = 2048) -> list[Detection]:
    """Return the detections of a new stream in `pcm`, fed in chunks of `chunk` bytes."""
    stream = await engine.stream(names)
    return [found for at in range(0, len(pcm), chunk) for found in await stream.feed(pcm[at : at + chunk])]


def heard(engine: Engine, pcm: bytes, names: Sequence[str] | None, chunk: int = 2048) -> list[str]:
    """Return the names of the words detected in `pcm`."""
    return [detection.name for detection in asyncio.run(detect(engine, pcm, names, chunk))]


def scores(engine: Engine, pcm: bytes, names: Sequence[str]) -> Floats:
    """Return the scores of all whole frames of `pcm`."""
    scorer = engine.scorer(names)
    frames = (len(pcm) // 2 - scorer.first_samples) // scorer.hop_samples
    return scorer.scores(pcm[: 2 * (scorer.first_samples + frames * scorer.hop_samples)])
