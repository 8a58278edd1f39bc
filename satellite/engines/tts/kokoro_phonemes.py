"""Text to the phonemes that Kokoro was trained on, which differ from espeak's in how they are written."""

import re
from collections.abc import Iterator

from satellite.engines.tts.espeak import phonemizer
from satellite.languages import read_yaml

_TABLES = read_yaml("satellite.engines.tts", "kokoro_phonemes.yaml")


class KokoroPhonemes:
    """Phonemes of one language."""

    def __init__(self, letter: str) -> None:
        """Take the language of voices whose names begin with `letter`; raises LookupError if there is none."""
        self._phonemes = phonemizer(_TABLES["voices"][letter])
        self._tables: list[dict[str, str]] = _TABLES["symbols"].get(letter, [_TABLES["of_all"]])

    def sentences(self, text: str) -> Iterator[str]:
        """Yield the phonemes of each sentence in `text`; blocking."""
        for phonemes in self._phonemes(text):
            # espeak's voices answer in decomposed letters, and so does the vocabulary, but for this one.
            sentence = "".join(phonemes).replace("c\u0327", "ç").replace("-", "")
            for table in self._tables:
                for theirs, ours in table.items():
                    sentence = sentence.replace(theirs, ours)
            if re.search(r"\w", sentence):
                yield sentence.strip()
