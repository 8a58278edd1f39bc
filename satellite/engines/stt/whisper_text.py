"""What Whisper writes: its tokens as text, and whether that repeats itself."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

_COMPRESSION_LIMIT = 2.4
"""zlib ratio above which text counts as repetitive, as in OpenAI's `transcribe.py`."""

_ECHO_WORDS = 3
"""Words that come twice in a row are an echo: in short windows tiny.en says the last of two sentences again."""

_SPECIAL_TOKEN = re.compile(r"<\|.*\|>")


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the decoder returned for a stretch of speech."""

    text: str
    language: str
    log_probability: float
    no_speech: float
    capped: bool
    """Whether it would have gone on."""

    @property
    def repetitive(self) -> bool:
        """True for what Whisper falls into when it does not see the end of the speech: loops, a sentence once more."""
        raw, words = self.text.encode(), self.text.split()
        compression = len(raw) / len(zlib.compress(raw))
        return self.capped or compression > _COMPRESSION_LIMIT or loop_at(words) is not None or echoes(words)

    @property
    def said_once(self) -> str:
        """The text up to the end of the first turn of its loop; all of it when there is none."""
        words = self.text.split()
        loop = loop_at(words)
        return self.text if loop is None else " ".join(words[: sum(loop)])


def _folded(words: Sequence[str]) -> list[str]:
    return [word.lower().strip(".,!?") for word in words]


def echoes(words: Sequence[str]) -> bool:
    """Return whether some words, three at least, come twice in direct succession: people seldom say so."""
    folded = _folded(words)
    return any(
        folded[start : start + size] == folded[start + size : start + 2 * size]
        for start in range(len(folded))
        for size in range(_ECHO_WORDS, (len(folded) - start) // 2 + 1)
    )


def loop_at(words: Sequence[str]) -> tuple[int, int] | None:
    """Return where a phrase begins that comes four times or more in direct succession, and its one to four words."""
    folded = _folded(words)
    for start in range(len(folded)):
        for size in range(1, 5):
            phrase = folded[start : start + size]
            following = folded[start + size : start + 4 * size]
            if len(phrase) == size and following == phrase * 3:
                return start, size
    return None


def text_of(tokens: Sequence[str]) -> str:
    """Return what `tokens` say: they spell bytes, in the alphabet of GPT-2's `bytes_to_unicode`."""
    spelled = "".join(token for token in tokens if not _SPECIAL_TOKEN.fullmatch(token))
    return bytes(_BYTES[character] for character in spelled).decode(errors="replace").strip()


def _byte_alphabet() -> dict[str, int]:
    """Return the byte that each character stands for: printable ones for themselves, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + index): byte for index, byte in enumerate(others)}


_BYTES = _byte_alphabet()
