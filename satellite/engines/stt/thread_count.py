"""How many threads Whisper is fastest with on this host.

CTranslate2's decoder computes little between two meetings of its threads. Where cores are few, shared or virtual, the
meetings cost more than they save: on a virtual machine of two cores tiny.en took 140 ms for a command with one thread,
and 264 ms with two.
"""

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

_TOKENS = 12
"""Of a short command."""

_END_OF_TEXT = [50_256, 50_257]
"""In English models, and in the others: not to be said, so that all decode as much."""

_REPEATS = 4
_REST_SECONDS = 0.25
"""Before each: commands come one at a time, when threads sleep, and to wake them is what costs."""

_SLOW_SECONDS = 2.0
"""A model that takes so long computes so much that threads pay, and to measure it takes too long."""

_WORTH_IT = 0.95
"""More threads must take at most this share of the time: they are cores that nobody else has."""


def fastest_threads(load: Callable[[int], Any], most: int, frames: int) -> int:
    """Return which number of threads, `most` at most, is fastest; blocks.

    `load` returns CTranslate2's Whisper with so many; `frames` is the encoder's usual window.
    """
    fastest, best_seconds = most, float("inf")
    for threads in _halved(most):
        whisper = load(threads)
        first_seconds = _seconds(whisper, frames)
        if first_seconds > _SLOW_SECONDS:
            return fastest
        seconds = median(_rested_seconds(whisper, frames) for _ in range(_REPEATS))
        if _WORTH_IT * seconds < best_seconds:
            fastest, best_seconds = threads, seconds
    return fastest


def _halved(most: int) -> Iterator[int]:
    while most:
        yield most
        most //= 2


def _rested_seconds(whisper: Any, frames: int) -> float:
    time.sleep(_REST_SECONDS)
    return _seconds(whisper, frames)


def _seconds(whisper: Any, frames: int) -> float:
    """Return how long a command takes: noise, since what is said does not matter."""
    import ctranslate2
    import numpy as np

    noise = np.random.default_rng(0).normal(0, 0.5, (1, whisper.n_mels, frames)).astype(np.float32)
    prompt = ["<|startoftranscript|>", "<|notimestamps|>"]
    began = time.monotonic()
    encoded = whisper.encode(ctranslate2.StorageView.from_array(noise))
    whisper.generate(
        encoded,
        [prompt],
        beam_size=1,
        max_length=len(prompt) + _TOKENS,
        suppress_tokens=[-1, *_END_OF_TEXT],
    )
    return time.monotonic() - began
