"""What every kind of voice can do once it is in memory."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from satellite.config.settings import TtsSettings
from satellite.engines.measurements import Measurements
from satellite.engines.tts.windows import Timeline

if TYPE_CHECKING:
    from satellite.engines.tts.vits import Samples

T = TypeVar("T")

CALIBRATION = "The quick brown fox jumps over the lazy dog. One, two, three, four, five."


@dataclass(frozen=True, slots=True)
class VoiceFile:
    """Where a voice is on disk."""

    path: Path
    """The voice itself: a network (.onnx), or the style (.bin) of a network that many voices share."""

    network: Path | None = None
    """The folder of the shared network; only Kokoro's voices have one."""

    characters_of: str | None = None
    """Language of a voice that reads characters instead of phonemes (MMS); None for all others."""


class LoadedVoice(Protocol):
    """One voice in memory. All methods block, and run in the engine's thread."""

    name: str
    device: str
    """Where it really runs: `cpu` or `cuda`."""

    digest: str
    """Changes with the content of its files."""

    rate: int
    """Samples a second."""

    speaks_sentences: bool
    """Whether each array of samples is a whole sentence."""

    speakers: Mapping[str, int]
    """Numbers of its speakers by name; empty for one speaker."""

    measurements: Measurements
    calibration: str
    """Text by which its loudness is measured; every voice of an alphabet has the same."""

    def speak(
        self, text: str, settings: TtsSettings, speaker_id: int | None, timeline: Timeline
    ) -> "Iterator[Samples]":
        """Yield the samples of `text`, made before the sound in `timeline` ends, if the host is fast enough.

        Empty arrays between them give the caller a chance to stop.
        """

    def scales(self, settings: TtsSettings) -> tuple[float, ...]:
        """Return the numbers that change how it speaks: configured, or its own."""

    def length_scale(self, settings: TtsSettings) -> float:
        """Return the pace; above 1 is slower."""


def calibration_loudness(voice: LoadedVoice, settings: TtsSettings, speaker_id: int | None) -> float:
    """Return the loudness of the calibration text, LUFS, measured once; blocking."""
    import numpy as np

    from satellite.engines.tts.level import loudness

    def measure() -> float:
        return loudness(
            np.concatenate([np.zeros(0), *voice.speak(voice.calibration, settings, speaker_id, Timeline())]), voice.rate
        )

    conditions = {"speaker": speaker_id, "scales": list(voice.scales(settings))}
    return voice.measurements.get("loudness", conditions, measure)


def given(value: T | None, default: T) -> T:
    """Return a configured value, or the default where there is none."""
    return default if value is None else value
