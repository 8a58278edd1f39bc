"""A voice of Meta's MMS: text to characters, characters to samples by its VITS network.

After "Scaling Speech Technology to 1,000+ Languages" (Pratap et al., 2023). A folder has the network (.onnx) and what
Transformers keeps beside it: vocab.json, config.json and tokenizer_config.json.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from satellite.config.settings import TtsSettings
from satellite.engines.onnx_session import Provider, model_errors
from satellite.engines.tts.loaded_voice import CALIBRATION
from satellite.engines.tts.vits import Inputs, Samples
from satellite.engines.tts.vits_synthesis import VitsSynthesis
from satellite.engines.tts.windows import Timeline
from satellite.errors import TextToSpeechError
from satellite.languages import family

_SENTENCE_END = re.compile(r"(?<=[.!?…。！？।])\s+|\n+")
_NUMBER = re.compile(r"\d{1,15}")


class MmsVoice:
    """One voice, which has a single speaker (`LoadedVoice`). Its pace and variation are parts of its network."""

    speaks_sentences = False

    def __init__(self, file: Path, parts: Path, providers: Sequence[Provider], threads: int, language: str) -> None:
        """Load the .onnx `file`; numbers are written out in `language`. Raises `TextToSpeechError`."""
        folder = file.parent
        self.name = folder.name
        self.speakers: Mapping[str, int] = {}
        self._language = family(language)
        try:
            self.rate = int(_read(folder / "config.json")["sampling_rate"])
            self._ids: dict[str, int] = {symbol: int(number) for symbol, number in _read(folder / "vocab.json").items()}
            self.calibration = CALIBRATION if {"e", "o", "t"} <= self._ids.keys() else _alphabet(self._ids)
            tokenizer = _read(folder / "tokenizer_config.json")
            self._add_blank = bool(tokenizer.get("add_blank", True))
            if tokenizer.get("is_uroman"):
                raise ValueError("its text has to be written in Latin letters first, which is not done here")
            self._vits = VitsSynthesis(file, parts, providers, threads, rate=self.rate, calibration=self._calibration)
        except model_errors() as error:
            raise TextToSpeechError(f"voice {self.name} cannot be loaded: {error}", kind="not-ready") from error
        self.device, self.digest, self.measurements = self._vits.device, self._vits.digest, self._vits.measurements

    @property
    def in_windows(self) -> bool:
        """Whether its network could be split, so that it is heard from within the sentence."""
        return self._vits.network is not None

    def speak(self, text: str, settings: TtsSettings, speaker_id: int | None, timeline: Timeline) -> Iterator[Samples]:
        """Yield the samples of `text`, window by window (`LoadedVoice`)."""
        for sentence in _SENTENCE_END.split(text):
            if ids := self.ids(sentence):
                yield from self._vits.windows(_inputs(ids), timeline)

    def scales(self, settings: TtsSettings) -> tuple[float, ...]:
        """Return nothing: no setting changes how it speaks (`LoadedVoice`)."""
        return ()

    def length_scale(self, settings: TtsSettings) -> float:
        """Return the pace of the network (`LoadedVoice`)."""
        return 1.0

    def ids(self, sentence: str) -> list[int]:
        """Return the network's numbers for the characters that it knows; empty if there is no letter among them."""
        written = _NUMBER.sub(self._number, sentence).lower()
        known = [character for character in written if character in self._ids]
        if not any(character.isalpha() for character in known):
            return []
        ids = [self._ids[character] for character in known]
        return [0, *(number for one in ids for number in (one, 0))] if self._add_blank else ids

    def _number(self, match: re.Match[str]) -> str:
        """Write a number out, unless the vocabulary has its digits or nobody knows the language's words."""
        from unicode_rbnf import RbnfEngine

        digits = match.group()
        if digits[0] in self._ids:
            return digits
        try:
            return f" {RbnfEngine.for_language(self._language).format_number(int(digits)).text} "
        except ValueError:
            return digits

    def _calibration(self) -> tuple[Inputs, Inputs]:
        """Return inputs of some seconds, and of half as much."""
        ids = self.ids(self.calibration)
        return _inputs(ids), _inputs(ids[: len(ids) // 2])


def _alphabet(symbols: Iterable[str]) -> str:
    """Return a text of some seconds in an alphabet that English cannot be written in."""
    letters = [symbol for symbol in symbols if symbol.isalpha()]
    return " ".join("".join(letters[at : at + 5]) for at in range(0, min(len(letters), 60), 5))


def _inputs(ids: Sequence[int]) -> Inputs:
    """Return the inputs by the names that Transformers and its exporters give them."""
    return {"input_ids": np.array([ids], np.int64), "attention_mask": np.ones((1, len(ids)), np.int64)}


def _read(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{file.name} is no object")
    return content
