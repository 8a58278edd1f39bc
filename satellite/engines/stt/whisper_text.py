"""Whisper's tokens: the text and the languages that they stand for, and whether they repeat themselves."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_COMPRESSION_LIMIT = 2.4
"""Ratio of zlib above which text counts as repetitive, as in OpenAI's `transcribe.py`."""

_ECHO_WORDS = 3
"""Words that, repeated at once, are an echo: in short windows tiny.en repeats the last of two sentences."""

_WORD = re.compile(r"[\w']+")
_SPECIAL_TOKEN = re.compile(r"<\|.*\|>")
_TIMESTAMP = re.compile(r"<\|(\d+\.\d\d)\|>")
_LANGUAGE_TOKEN = re.compile(r"<\|([a-z]{2,3})\|>")


@dataclass(frozen=True, slots=True)
class Span:
    """Text, and the seconds between which it was said."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """The decoder's result for a segment of speech."""

    text: str
    language: str
    log_probability: float
    no_speech: float
    capped: bool
    """Whether it was cut at the maximum length."""

    spans: Sequence["Span"] = ()
    """Where the parts of the text were said, if the decoder was asked for timestamps."""

    @property
    def repetitive(self) -> bool:
        """Whether text is repeated, as Whisper does if its window ends too close after the speech."""
        raw, words = self.text.encode(), self.text.split()
        compression = len(raw) / len(zlib.compress(raw))
        return self.capped or compression > _COMPRESSION_LIMIT or loop_at(words) is not None or echoes(words)

    def names(self, vocabulary: Sequence[str]) -> int:
        """Return how many entries of `vocabulary` are in the text, without regard to case and punctuation."""
        text = f" {' '.join(_WORD.findall(self.text.lower()))} "
        return sum(f" {' '.join(_WORD.findall(name.lower()))} " in text for name in vocabulary)

    @property
    def said_once(self) -> str:
        """The text up to the first repetition of its loop; all of it if there is none."""
        words = self.text.split()
        loop = loop_at(words)
        return self.text if loop is None else " ".join(words[: sum(loop)])


def _folded(words: Sequence[str]) -> list[str]:
    return [word.lower().strip(".,!?") for word in words]


def echoes(words: Sequence[str]) -> bool:
    """Return whether three words or more are repeated at once, or two are all that is said, which people seldom do."""
    folded = _folded(words)
    is_all = len(folded) == 4 and len(set(folded)) == 2 and folded[:2] == folded[2:]
    return is_all or any(
        folded[start : start + size] == folded[start + size : start + 2 * size]
        for start in range(len(folded))
        for size in range(_ECHO_WORDS, (len(folded) - start) // 2 + 1)
    )


def loop_at(words: Sequence[str]) -> tuple[int, int] | None:
    """Return the start and length of a phrase of one to four words that is said four times or more in a row."""
    folded = _folded(words)
    for start in range(len(folded)):
        for size in range(1, 5):
            phrase = folded[start : start + size]
            following = folded[start + size : start + 4 * size]
            if len(phrase) == size and following == phrase * 3:
                return start, size
    return None


def languages_of(folder: Path) -> tuple[str, ...]:
    """Return the languages with a token in the vocabulary of the model in `folder`."""
    found: set[str] = set()
    for name in ("vocabulary.json", "vocabulary.txt"):
        if (folder / name).is_file():
            found |= set(_LANGUAGE_TOKEN.findall((folder / name).read_text(encoding="utf-8")))
    return tuple(sorted(found))


def likeliest(detected: Sequence[tuple[str, float]], spoken: Sequence[str]) -> str:
    """Return the code of the first `detected` token, such as `<|fr|>`, that is in `spoken`, else of the first."""
    codes = [token.strip("<|>") for token, _ in detected]
    return next((code for code in codes if code in spoken), codes[0])


def text_of(tokens: Sequence[str]) -> str:
    """Return the text of `tokens`, which spell bytes in the alphabet of GPT-2's `bytes_to_unicode`."""
    spelled = "".join(token for token in tokens if not _SPECIAL_TOKEN.fullmatch(token))
    return bytes(_BYTES[character] for character in spelled).decode(errors="replace").strip()


def spans_of(tokens: Sequence[str], seconds: float) -> list[Span]:
    """Return the parts of the text between timestamps; the last one lasts until `seconds` if it has no end."""
    found: list[Span] = []
    start, words = 0.0, list[str]()
    for token in (*tokens, f"<|{seconds:.2f}|>"):
        stamp = _TIMESTAMP.fullmatch(token)
        if stamp is None:
            words.append(token)
            continue
        at = min(float(stamp[1]), seconds)
        if text := text_of(words):
            found.append(Span(start, at, text))
        start, words = at, []
    return found


def _byte_alphabet() -> dict[str, int]:
    """Return the byte of each character: printable bytes are themselves, the others begin at U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + index): byte for index, byte in enumerate(others)}


_BYTES = _byte_alphabet()
