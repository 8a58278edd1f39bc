"""Text to the phonemes that Kokoro was trained on, which differ from espeak's in how they are written."""

import re
from collections.abc import Iterator

ESPEAK_VOICES = {"a": "en-us", "b": "en", "e": "es", "f": "fr", "h": "hi", "i": "it", "p": "pt-br"}
"""espeak's voices by the first letter of Kokoro's.

Without Chinese, of which espeak writes the first tone as it does the fourth, and Japanese, whose kanji it cannot read.
"""

_OF_ALL = {"tʃ": "ʧ", "dʒ": "ʤ", "ts": "ʦ", "dz": "ʣ", "tɕ": "ʨ", "dʑ": "ʥ"}
"""Two letters of espeak that are one symbol."""

_ENGLISH = {
    "eɪ": "A",
    "aɪ": "I",
    "aʊ": "W",
    "ɔɪ": "Y",
    "oʊ": "O",
    "əʊ": "Q",
    "ɚ": "əɹ",
    "ɜː": "ɜɹ",
    "ʲ": "",
    "r": "ɹ",
    "x": "k",
    "ɐ": "ə",
}
_AMERICAN = {"əl": "ᵊl", "ɾ": "T", "ː": ""}
_BRITISH = {"eə": "ɛː", "iə": "ɪə", "ɜɹ": "ɜː"}

_SYMBOLS = {"a": (_OF_ALL, _ENGLISH, _AMERICAN), "b": (_OF_ALL, _ENGLISH, _BRITISH)}


class KokoroPhonemes:
    """Phonemes of one language."""

    def __init__(self, letter: str) -> None:
        """Take the language of voices whose names begin with `letter`; raises LookupError if there is none."""
        from piper.phonemize_espeak import EspeakPhonemizer

        self._voice = ESPEAK_VOICES[letter]
        self._espeak = EspeakPhonemizer()
        self._tables = _SYMBOLS.get(letter, (_OF_ALL,))

    def sentences(self, text: str) -> Iterator[str]:
        """Yield the phonemes of each sentence in `text`; blocking."""
        for phonemes in self._espeak.phonemize(self._voice, text):
            # espeak's voices answer in decomposed letters, and so does the vocabulary, but for this one.
            sentence = "".join(phonemes).replace("c\u0327", "ç").replace("-", "")
            for table in self._tables:
                for theirs, ours in table.items():
                    sentence = sentence.replace(theirs, ours)
            if re.search(r"\w", sentence):
                yield sentence.strip()
