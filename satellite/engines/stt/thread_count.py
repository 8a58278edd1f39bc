"""The number of threads with which Whisper is fastest on this host.

The threads of CTranslate2's decoder synchronise often. On few, shared or virtual cores this costs more than it saves:
on a virtual machine with two cores, tiny.en took 140 ms for a command with one thread, and 264 ms with two.
"""

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, TypeAlias

WhisperModel: TypeAlias = Any
"""`ctranslate2.models.Whisper`, which has no types."""

_TOKENS = 12
"""Length of a short command."""

_END_OF_TEXT = [50_256, 50_257]
"""In English and in multilingual models; suppressed, so that all attempts decode the same number of tokens."""

_REPEATS = 4
_REST_SECONDS = 0.25
"""Pause before each attempt: commands arrive one at a time, and waking sleeping threads is part of the cost."""

_SLOW_SECONDS = 2.0
"""A model that takes this long profits from all threads, and measuring it would take too long."""

_WORTH_IT = 0.95
"""More threads must reduce the time to this share, since the other engines lose these cores."""


def fastest_threads(load: Callable[[int], WhisperModel], most: int, frames: int) -> int:
    """Return the fastest number of threads, `most` at most; blocking.

    `load` returns CTranslate2's Whisper for a number of threads; `frames` is the encoder's usual window.
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


def _rested_seconds(whisper: WhisperModel, frames: int) -> float:
    time.sleep(_REST_SECONDS)
    return _seconds(whisper, frames)


def _seconds(whisper: WhisperModel, frames: int) -> float:
    """Return how long a command takes; its content does not matter, so that it is noise."""
    import ctranslate2
    import numpy as np

    noise = np.random.default_rng(0).normal(0, 0.5, (1, whisper.n_mels, frames)).astype(np.float32)
    prompt = ["<|startoftranscript|>", "<|notimestamps|>"]
    began = time.monotonic()
    encoded = whisper.encode(ctranslate2.StorageView.from_array(noise))
    whisper.generate(
        encoded, [prompt], beam_size=1, max_length=len(prompt) + _TOKENS, suppress_tokens=[-1, *_END_OF_TEXT]
    )
    return time.monotonic() - began
