"""Text to phonemes by espeak, whose faults end this process.

When it is initialised a second time it frees data that it goes on using. It copies text into arrays of fixed size,
which hold 160 bytes of a word, 80 of an abbreviation with points, and 300 words or 800 bytes of a clause, and does not
check the length. (espeak-ng 1.52, by AddressSanitizer.)
"""

import re
import unicodedata
from collections.abc import Callable, Iterator

_MOST_BYTES = 128
_MOST_LETTERS = 64
_LONG = re.compile(rf"\S{{{_MOST_BYTES // 4 + 1},}}")
_POINTED = re.compile(r"((?:[^\s.]\.){11}[^\s.])\.(?=[^\s.]\.)")
_DIGITS = re.compile(r"([\d.,]{24})(?=[\d.,])")
_JOINED_POINT = re.compile(r"(?<=\.)[\u200c\u200d]+")
_WORD = re.compile(r"\s*\S+|\s+")
_MOST_WORDS = 250
_MOST_BYTES_OF_CLAUSE = 760
_CLAUSE_ENDS = frozenset(".,;:!?…。，！？।")
_UNNAMED = frozenset(("Cc", "Cs", "Co", "Cn"))
"""Control characters, among them espeak's own commands; halves of characters; private and unassigned ones."""

_JOINERS = "\u200c\u200d"
"""The only invisible characters that tell how a word is read."""


def phonemizer(voice: str) -> Callable[[str], list[list[str]]]:
    """Return a function from text to the phonemes of each of its sentences in an espeak `voice`, such as en-us.

    piper-tts has one phonemizer in a process, behind a lock, for its own voices. It is used here for the others too.
    """
    from piper import PiperVoice
    from piper.config import PhonemeType, PiperConfig

    config = PiperConfig(0, 1, 0, voice, phoneme_id_map={}, phoneme_type=PhonemeType.ESPEAK)
    piper = PiperVoice(config=config, session=None)
    return lambda text: piper.phonemize(for_espeak(text))


def for_espeak(text: str) -> str:
    """Return `text` without control characters, and with words and clauses of a length that espeak can take."""
    # espeak takes "_" for a space.
    spoken = _JOINED_POINT.sub("", "".join(map(_readable, text)).replace("_", " "))
    spoken = _DIGITS.sub(r"\1 ", spoken)
    parted = _LONG.sub(lambda word: " ".join(_parts(word[0])), _POINTED.sub(r"\1, ", spoken))
    return parted if len(parted) <= _MOST_WORDS else "".join(_with_pauses(parted))


def _readable(character: str) -> str:
    category = unicodedata.category(character)
    if category in _UNNAMED or "\u2800" <= character <= "\u28ff":  # a Braille pattern is read as its list of dots
        return " "
    return "" if category == "Cf" and character not in _JOINERS else character


def _parts(word: str) -> Iterator[str]:
    """Yield `word` in parts that are short enough, cut after a mark or sign where there is one."""
    start = cut = size = 0
    for index, character in enumerate(word):
        size += len(character.encode())
        if size > _MOST_BYTES or index - start >= _MOST_LETTERS:
            end = cut if cut > start + _MOST_LETTERS // 8 else index
            yield word[start:end]
            start, cut, size = end, end, len(word[end : index + 1].encode())
        if not character.isalnum() and not unicodedata.combining(character):
            cut = index + 1
    yield word[start:]


def _with_pauses(text: str) -> Iterator[str]:
    """Yield the words of `text`, with a comma where a clause is too long for espeak."""
    words = size = 0
    for word in _WORD.findall(text):
        # Of each of espeak's words at least one character is not small, be it the space before or a capital within;
        # there it may put a space of its own.
        starts = sum(not character.islower() for character in word)
        words, size = words + starts, size + starts + len(word.encode())
        if words > _MOST_WORDS or size > _MOST_BYTES_OF_CLAUSE:
            yield ","
            words, size = starts, starts + len(word.encode())
        if word[-1] in _CLAUSE_ENDS:
            words = size = 0
        yield word
