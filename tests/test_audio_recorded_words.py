"""The part of a recording in which a message is said: words are tones of their own, with pauses between them."""

import numpy as np
import pytest

from satellite.audio.pcm import RATE
from satellite.audio.recorded_words import recorded_words


def recording(text: str, level: float = 0.2, noise: float = 0.0005) -> bytes:
    """Return a word of `text` as a tone, a tenth of a second for each letter; the nth has (n + 1) * 100 Hz."""
    quiet = np.zeros(RATE // 2)
    parts = [quiet]
    for number, word in enumerate(text.split(), 1):
        times = np.arange(len(word) * RATE // 10) / RATE
        parts += [level * np.sin(2 * np.pi * 100 * (number + 1) * times), np.zeros(RATE // 12)]
    samples = np.concatenate([*parts, quiet])
    samples += np.random.default_rng(1).normal(0, noise, len(samples))
    return (samples * 32767).astype(np.int16).tobytes()


def heard(pcm: bytes, text: str) -> list[str]:
    """Return the words of `text` that are heard, more than half of each."""
    samples = np.frombuffer(pcm, np.int16) / 32768
    found = []
    for number, word in enumerate(text.split(), 1):
        times = np.arange(len(samples)) / RATE
        tone = np.exp(-2j * np.pi * 100 * (number + 1) * times)
        seconds = 2 * abs((samples * tone).sum()) / RATE / max(np.abs(samples).max(), 1e-9)
        if seconds > 0.05 * len(word):
            found.append(word)
    return found


@pytest.mark.parametrize("level", [0.01, 0.2, 0.9])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Broadcast dinner is ready now", "dinner is ready now"),
        ("Tell the kitchen that dinner is ready now", "dinner is ready now"),
        ("Announce dinner is ready now in the kitchen", "dinner is ready now"),
        ("Dinner is ready now", "Dinner is ready now"),
    ],
)
def test_only_the_message_is_heard(text: str, message: str, level: float) -> None:
    part = recorded_words(recording(text, level, noise=level / 400), f"{text}.", message)
    assert heard(part, text) == message.split()
    peak = np.abs(np.frombuffer(part, np.int16)).max() / 32768
    assert peak == pytest.approx(0.6 if level > 0.05 else 0.1, abs=0.02)


@pytest.mark.parametrize("pcm", [b"", b"\0", bytes(2 * RATE)])
def test_of_silence_there_is_nothing(pcm: bytes) -> None:
    assert recorded_words(pcm, "Broadcast dinner", "dinner") == b""
