"""Kokoro's voices: one network for all of them, and a style for each, spoken sentence by sentence.

The network takes all symbols of a sentence and returns its sound in one piece: its decoder is normalised over the whole
sentence, so that it cannot be run in windows as Piper's can. Sentences that are long are cut between clauses.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from satellite.config.settings import TtsSettings
from satellite.engines.measurements import Measurements
from satellite.engines.onnx_session import Provider, load_session, model_errors
from satellite.engines.tts.kokoro_phonemes import KokoroPhonemes
from satellite.engines.tts.loaded_voice import CALIBRATION, given
from satellite.engines.tts.parts_cache import digest_of
from satellite.engines.tts.vits import Inputs, Samples
from satellite.engines.tts.windows import Timeline
from satellite.errors import TextToSpeechError

_STYLE_VALUES = 256
_MOST_STYLE = 100.0
"""No value of a style is nearly as large."""

_MOST_SYMBOLS = 510
"""Longest input, without the mark at each end; the network's positions have 512."""

_LONG_SYMBOLS = 150
"""About 10 s of sound: longer sentences are spoken clause by clause, so that an interruption need not wait longer."""

_CLAUSE_END = re.compile(r"(?<=[,;:.!?—…]) ?")


class KokoroNetwork:
    """The network of all voices, with the symbols that it knows."""

    def __init__(self, folder: Path, providers: Sequence[Provider], threads: int) -> None:
        """Load the one .onnx file and `vocab.json` of `folder`; blocking. Raises `TextToSpeechError`."""
        try:
            (file,) = folder.glob("*.onnx")
            self._session = load_session(file, providers=providers, threads=threads)
            symbols: dict[str, int] = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))["vocab"]
            self._ids_name, self._style_name, self._speed_name = (one.name for one in self._session.get_inputs())
            self.digest = digest_of(file)
        except model_errors() as error:
            raise TextToSpeechError(f"Kokoro in {folder} cannot be loaded: {error}", kind="not-ready") from error
        self.symbols = symbols
        self.device = "cuda" if self._session.get_providers()[0].startswith("CUDA") else "cpu"

    def sound(self, ids: Sequence[int], style: NDArray[np.float32], speed: float) -> Samples:
        """Return the sound of up to 510 symbols in a style of 256 values; blocking."""
        inputs: Inputs = {
            self._ids_name: np.array([[0, *ids, 0]], np.int64),
            self._style_name: style.reshape(1, _STYLE_VALUES),
            self._speed_name: np.array([speed], np.float32),
        }
        return self._session.run(None, inputs)[0].reshape(-1)


class KokoroVoice:
    """A style of the network (`LoadedVoice`)."""

    rate = 24_000
    speaks_sentences = True

    def __init__(self, file: Path, network: KokoroNetwork, parts: Path) -> None:
        """Read the style `file`, whose name begins with the letter of its language, such as `ff_siwis.bin`.

        It has a row of 256 values (float32) for each number of symbols. Raises `TextToSpeechError`.
        """
        self.name = file.stem
        self.calibration = CALIBRATION
        self.speakers: Mapping[str, int] = {}
        self.device = network.device
        self._network = network
        try:
            style = file.read_bytes()
            self._styles = np.frombuffer(style, "<f4").reshape(-1, _STYLE_VALUES)
            if not np.abs(self._styles).max() < _MOST_STYLE:  # also if it is NaN
                raise ValueError(f"{file} is damaged: its values are no style")
            self._phonemes = KokoroPhonemes(self.name[0])
        except (OSError, ValueError, LookupError) as error:
            raise TextToSpeechError(f"voice {self.name} cannot be loaded: {error}", kind="not-ready") from error
        self.digest = hashlib.sha256(style + network.digest.encode()).hexdigest()
        self.measurements = Measurements(parts / self.digest)

    def speak(self, text: str, settings: TtsSettings, speaker_id: int | None, timeline: Timeline) -> Iterator[Samples]:
        """Yield the samples of `text`, a sentence or a part of one at a time (`LoadedVoice`)."""
        speed = 1 / self.length_scale(settings)
        for sentence in self._phonemes.sentences(text):
            for piece in _pieces(sentence):
                ids = [self._network.symbols[symbol] for symbol in piece if symbol in self._network.symbols]
                if ids:
                    style = self._styles[min(len(ids), len(self._styles)) - 1]
                    yield self._network.sound(ids, style, speed)

    def scales(self, settings: TtsSettings) -> tuple[float, ...]:
        """Return the pace alone; nothing else is variable (`LoadedVoice`)."""
        return (self.length_scale(settings),)

    def length_scale(self, settings: TtsSettings) -> float:
        """Return the configured pace (`LoadedVoice`)."""
        return given(settings.length_scale, 1.0)


def _pieces(sentence: str) -> Iterator[str]:
    """Yield a sentence in pieces that are as long as its clauses allow."""
    piece = ""
    for clause in _CLAUSE_END.split(sentence):
        if piece and len(piece) + len(clause) >= _LONG_SYMBOLS:
            yield piece
            piece = ""
        piece = f"{piece} {clause}".strip()
        while len(piece) > _MOST_SYMBOLS:  # a clause without end: cut between words, if there are any
            end = piece.rfind(" ", 1, _MOST_SYMBOLS)
            end = end if end > 0 else _MOST_SYMBOLS
            yield piece[:end]
            piece = piece[end:].strip()
    if piece:
        yield piece
