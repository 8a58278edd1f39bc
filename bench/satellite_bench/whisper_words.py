"""Words of recordings and where they begin, by Whisper as faster-whisper runs it: nothing of ours has a say in it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from satellite.audio.pcm import to_float
from satellite.audio.word_errors import normalise
from satellite.errors import SatelliteError


class WhisperWords:
    """What recognises the words (`splicing.Words`)."""

    def __init__(self, model: Path, threads: int) -> None:
        """Load the model in the folder; blocks."""
        from faster_whisper import WhisperModel

        try:
            self._whisper = WhisperModel(str(model), device="cpu", compute_type="int8", cpu_threads=threads)
        except (OSError, RuntimeError, ValueError) as error:
            raise SatelliteError(f"{model} cannot be loaded: {error}", code="bench-words") from error

    def starts(self, pcm: bytes) -> Sequence[float]:
        """Return where words begin, by the model's attention."""
        segments = self._segments(pcm, word_timestamps=True)
        return [float(word.start) for segment in segments for word in segment.words or ()]

    def said(self, pcm: bytes) -> Sequence[str]:
        """Return the words."""
        return normalise(" ".join(segment.text for segment in self._segments(pcm)))

    def _segments(self, pcm: bytes, **how: Any) -> list[Any]:
        segments, _ = self._whisper.transcribe(to_float(pcm), beam_size=1, temperature=0.0, **how)
        return list(segments)
