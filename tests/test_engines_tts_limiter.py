"""The limiter: no sample above its ceiling, nothing else changed, and pieces that sound as the whole does."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from satellite.config.settings import TtsSettings
from satellite.engines.protocols import Voice, VoiceChoice
from satellite.engines.tts.limiter import CEILING, Limiter
from satellite.engines.tts.loaded_voice import VoiceFile
from satellite.engines.tts.vits import Samples
from satellite.models.demo_set import JOE
from satellite.models.store import Store
from tests.test_engines_tts_piper import joined_and_whole, loaded
from tests.test_engines_tts_synthesizer import Mouth

RATE = 22_050
RAMP, HOLD = round(0.005 * RATE), round(0.015 * RATE)
LOUD = ("Stop! Stop it right now!", "Watch out! Fire! Fire!", "Go! Go! Go!", "Pow! Bang! Boom!", "Hooray! We won!")


def limited(samples: Samples, sizes: list[int] | None = None) -> Samples:
    """Return the limited sound, handed over in pieces of `sizes` in turn."""
    limiter = Limiter(RATE)
    pieces: list[Samples] = []
    at = 0
    while at < len(samples):
        size = sizes[len(pieces) % len(sizes)] if sizes else len(samples)
        pieces.append(limiter.limit(samples[at : at + size]))
        at += size
        # No more is held back than the delay, so that the first sound is heard at once.
        assert sum(map(len, pieces)) == max(0, min(at, len(samples)) - RAMP)
    return np.concatenate([*pieces, limiter.flush()])


def tone(hertz: float, seconds: float, level: float = 1.0) -> Samples:
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def loud_noise(seconds: float = 2.0) -> Samples:
    noise = np.random.default_rng(1).normal(size=int(seconds * RATE)) * (1 + tone(1.5, seconds)) / 2
    return noise.astype(np.float32)


def gains(sound: Samples) -> NDArray[np.float32]:
    return limited(sound) / sound


def test_no_sample_is_above_the_ceiling() -> None:
    sound = loud_noise()
    assert np.abs(sound).max() > 3
    assert np.abs(limited(sound)).max() <= CEILING * 1.000_001
    for at in (0, 1, RAMP, len(sound) - 1):  # also where the sound begins and ends
        click = np.zeros(len(sound), np.float32)
        click[at] = -4
        assert np.abs(limited(click)).max() == pytest.approx(CEILING)


@pytest.mark.parametrize("sizes", [[1, 2, 3], [100, 441], [37, 2048, 5]])
def test_pieces_sound_as_the_whole_does(sizes: list[int]) -> None:
    sound = loud_noise(0.5)
    assert np.abs(limited(sound, sizes) - limited(sound)).max() <= 1e-6


def test_what_is_below_the_ceiling_passes_unchanged() -> None:
    sound = tone(180, 1.0, CEILING)
    assert (limited(sound) == sound).all()
    peak = len(sound) // 2
    sound[peak] = 2
    changed = np.flatnonzero(limited(sound) != sound)
    assert peak - RAMP <= changed.min() < peak < changed.max() <= peak + HOLD + RAMP


def test_the_gain_has_no_steps_and_no_memory() -> None:
    sound = np.concatenate((tone(200, 0.5, 0.5) + 0.01, tone(200, 0.1, 2.0) + 0.01, tone(200, 0.5, 0.5) + 0.01))
    found = gains(sound)
    assert found.min() == pytest.approx(CEILING / 2.01, rel=0.01)
    assert np.abs(np.diff(found)).max() < 3 * (1 - found.min()) / RAMP
    assert (found[-int(0.4 * RATE) :] == 1).all()  # no pumping: what follows is as loud as before


def test_the_gain_does_not_follow_the_pitch_of_a_deep_voice() -> None:
    sound = (1.5 * (tone(70, 1.0) > 0.9)).astype(np.float32) + 0.01  # a pulse in each period
    inside = gains(sound)[RATE // 4 : -RATE // 4]
    assert inside.max() - inside.min() < 1e-6


def test_silence_and_nothing_stay_so() -> None:
    assert len(limited(np.zeros(0, np.float32))) == 0
    assert (limited(np.zeros(RATE, np.float32)) == 0).all()


@pytest.mark.models
async def test_loud_texts_of_a_real_voice_do_not_clip(models_directory: Path) -> None:
    file = Store(models_directory).file(JOE, ".onnx")
    mouth = Mouth(
        [(Voice("joe", ("en_US",), (), ""), VoiceFile(file))], models_directory / ".parts", threads=2, volume=1.5
    )
    gain = (await mouth.piper.speaker(VoiceChoice())).gain
    voice = loaded(file, models_directory / ".parts")
    assert voice.vits.network is not None
    over = 0
    for text in LOUD:
        peak = np.abs(np.frombuffer(await mouth.say(text), np.int16)).max() / 32767
        assert 0.5 < peak <= CEILING + 1e-4
        for inputs in voice.sentences(text, TtsSettings(), None):
            joined, whole = joined_and_whole(file.read_bytes(), voice.vits.network, inputs, [12, 16, 32, 64])
            over += int(np.abs(whole * gain).max() > 1)
            at_once = limited(whole * np.float32(gain))
            in_windows = limited(joined * np.float32(gain), [3072, 4096, 8192])
            assert np.abs(in_windows - at_once).max() <= 1e-3 * gain
    assert over  # else it proves nothing
    mouth.worker.close()
