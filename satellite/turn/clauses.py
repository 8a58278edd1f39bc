"""Text as it streams in -> pieces fit to be spoken: early first piece, whole sentences after, no markup read aloud.

The first piece ends at the first punctuation after ten letters or digits, so that sound starts before the sentence
is complete; a long one without any, that is still being made, ends before a word such as "that" or "because", where
people breathe as well. Later pieces are whole sentences, because every cut costs intonation.
"""

import re
import unicodedata
from collections.abc import Iterator

_FIRST_PIECE_LETTERS = 10
_LONG_FIRST_PIECE_LETTERS = 24
_LONGEST_PIECE = 240
"""Characters after which a sentence is cut at a comma or a space, so that no piece takes long to synthesise."""

_SENTENCE_END = re.compile(r"""[.!?…]+["'”’)\]]*(?=\s)|[。！？]["'”’）]*|\n+""")
_CLAUSE_END = re.compile(r"""[,;:.!?…]+["'”’)\]]*(?=\s)|[。！？，；：、]|\s[–—-]+(?=\s)|\n+""")
_CLAUSE_END_AT_ONCE = re.compile(r"(?:(?<=[^\W\d_]{3})[.!?]|(?<=[^\W\d_]{2})[,;:])$")
"""What ends the first piece though nobody knows yet what follows: behind a word it is hardly ever a decimal's point."""

_JOINTS = {
    language: re.compile(rf"\s+(?=(?:{words})\s)")
    for language, words in {
        "de": "und|oder|sondern",
        "en": "and|or|but|that|which|who|because|so|if|when|while|where|until|unless|although|though",
        "es": "y|o|pero|que|porque|cuando|si|donde|para",
        "fr": "et|ou|mais|que|qui|parce|car|donc|quand|si|où|pour",
        "it": "e|o|ma|che|perché|quando|se|dove|per",
        "nl": "en|of|maar|dat|die|omdat|als|want",
        "pt": "e|ou|mas|que|porque|quando|se|onde|para",
    }.items()
}
"""Where a clause begins without punctuation, by language; German has a comma before all others."""

_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|etc|e\.g|i\.e|No|approx|M|Mme|Bd|z\.B|bzw|ca)|\b[A-Z]|^\s*\d+)\.$"
)

_CODE_BLOCK = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<[!?][^<>]*>")
_IMAGE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
_URL = re.compile(r"\b(?:https?://|www\.)[^\s<>]*[^\s<>.,;:!?)\]\"']", re.IGNORECASE)
_HOST = re.compile(r"^(?:https?://)?(?:www\.)?([^/?#:]+)", re.IGNORECASE)
_LIST_MARK = re.compile(r"^[ \t]*(?:[-*+•>]|#{1,6})[ \t]+", re.MULTILINE)
_RULE = re.compile(r"^[ \t]*(?:[-*_=][ \t]*){3,}$", re.MULTILINE)
_EMPHASIS = re.compile(r"(\*{1,3}|_{2,3}|~~|`+)(?=\S)(.+?)(?<=\S)\1")
_UNDERSCORED = re.compile(r"(?<!\w)_(?=\S)(.+?)(?<=\S)_(?!\w)")
_TABLE_BAR = re.compile(r"\s*\|\s*")
_RAW_PHONEMES = re.compile(r"\[\[|\]\]")
_SPACES = re.compile(r"\s+")
_SPACE_BEFORE_MARK = re.compile(r"\s+([,.;:!?])")
_REPEATED_MARK = re.compile(r"([!?.,;:])\1{2,}|([-=_*#~])\2{2,}")


def speakable(text: str) -> str:
    """Return `text` as a person would read it aloud: no markdown, tags, emoji, addresses or control characters.

    A link is read as its words, a bare URL as its host. Empty when nothing is left that can be spoken.
    """
    text = _CODE_BLOCK.sub(" ", text)
    text = _IMAGE.sub(r"\1", text)
    text = _LINK.sub(r"\1", text)
    text = _URL.sub(_host_of, text)
    text = _TAG.sub(" ", text)
    text = _RULE.sub(" ", text)
    text = _LIST_MARK.sub("", text)
    text = _EMPHASIS.sub(r"\2", text)
    text = _UNDERSCORED.sub(r"\1", text)
    text = _RAW_PHONEMES.sub(" ", text)  # Piper takes [[...]] for phonemes
    text = _TABLE_BAR.sub(", ", text) if "|" in text else text
    text = _REPEATED_MARK.sub(lambda match: match[1] or " ", text)
    text = "".join(_spoken(character) for character in unicodedata.normalize("NFC", text))
    text = _SPACE_BEFORE_MARK.sub(r"\1", _SPACES.sub(" ", text)).strip()
    return text if any(character.isalnum() for character in text) else ""


def _host_of(match: re.Match[str]) -> str:
    host = _HOST.match(match[0])
    return host[1] if host else " "


_KEPT_SYMBOLS = frozenset("$€£¥₹%+=<>°&@§©®™×÷±µ#/")


def _spoken(character: str) -> str:
    """Return `character` if a voice can say it or pause at it, else a space or nothing."""
    category = unicodedata.category(character)
    if category[0] in "LNPZ" or category in ("Mn", "Mc") or character in _KEPT_SYMBOLS:
        return " " if character in "\\*_`~" else character
    if category in ("Cf", "Me", "Sk") or "\ufe00" <= character <= "\ufe0f":
        return ""
    return " "


class ClauseSplitter:
    """Collects text deltas and hands out pieces that can be synthesised one after the other."""

    def __init__(self, language: str | None = None) -> None:
        """`language` of the voice, such as `en_US`."""
        self._joint = _JOINTS.get(re.split("[-_]", language or "")[0].lower())
        self._text = ""
        self._first = True
        self._deltas = 0

    def feed(self, delta: str) -> Iterator[str]:
        """Yield the speakable pieces that `delta` completes."""
        self._text += delta
        self._deltas += 1
        while (end := self._piece_end()) is not None:
            piece, self._text = self._text[:end], self._text[end:]
            yield from self._emit(piece)
        if (end := self._joint_end()) is not None:
            piece, self._text = self._text[:end], self._text[end:]
            yield from self._emit(f"{piece},")  # for the voice to stay up

    def flush(self) -> Iterator[str]:
        """Yield what is left; the text is over."""
        rest, self._text = self._text, ""
        yield from self._emit(rest)
        self._first = True
        self._deltas = 0

    def _emit(self, piece: str) -> Iterator[str]:
        spoken = speakable(piece)
        if spoken:
            self._first = False
            yield spoken

    def _piece_end(self) -> int | None:
        """Return where the next piece ends, or None while more text is needed."""
        if (fence := self._text.find("```")) >= 0:
            closing = self._text.find("```", fence + 3)
            if fence == 0:
                return closing + 3 if closing >= 0 else None
            return fence
        for pattern in (_CLAUSE_END, _CLAUSE_END_AT_ONCE) if self._first else (_SENTENCE_END,):
            for match in pattern.finditer(self._text):
                if self._is_end(match):
                    return match.end()
        if len(self._text) > _LONGEST_PIECE:
            return _cut(self._text)
        return None

    def _joint_end(self) -> int | None:
        """Return where a first piece without punctuation ends, if the text is long by now and comes bit by bit."""
        if self._joint is None or not self._first or self._deltas < 2 or "```" in self._text:
            return None
        ends = (match.start() for match in self._joint.finditer(self._text))
        return next((end for end in ends if _letters(self._text[:end]) >= _LONG_FIRST_PIECE_LETTERS), None)

    def _is_end(self, match: re.Match[str]) -> bool:
        piece = self._text[: match.end()]
        if not any(character.isalnum() for character in piece):
            return False
        if match[0].startswith(".") and _ABBREVIATION.search(piece.rstrip()):
            return False
        if not self._first or match.end() > _LONGEST_PIECE:
            return True
        ends_sentence = match[0][0] in ".!?…。！？\n"
        return ends_sentence or _letters(piece) >= _FIRST_PIECE_LETTERS


def _letters(text: str) -> int:
    return sum(character.isalnum() for character in text)


def _cut(text: str) -> int:
    """Return where to cut a sentence that goes on too long: at a comma, else at a space, else hard."""
    head = text[:_LONGEST_PIECE]
    for mark in (", ", "; ", " "):
        if (at := head.rfind(mark)) > _LONGEST_PIECE // 3:
            return at + len(mark)
    return _LONGEST_PIECE


def finished(text: str) -> str:
    """Return `text` up to the end of its last complete sentence, or all of it if none is complete."""
    text = text.strip()
    ends = [
        match.end() for match in _SENTENCE_END.finditer(f"{text}\n") if not _ABBREVIATION.search(text[: match.end()])
    ]
    complete = [end for end in ends if end <= len(text)]
    return text[: complete[-1]].strip() if complete else text


def is_finished(text: str) -> bool:
    """Return whether `text` ends with a complete sentence."""
    return bool(text.strip()) and finished(f"{text.strip()} x") == text.strip()


def pieces(text: str) -> Iterator[str]:
    """Yield a complete `text` in speakable pieces."""
    splitter = ClauseSplitter()
    yield from splitter.feed(text)
    yield from splitter.flush()
