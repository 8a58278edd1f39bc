"""Cuts text, as it streams in, into pieces to speak: a short first piece, then whole sentences, without markup.

The first piece ends at the first punctuation after ten letters or digits, so that sound starts before the sentence is
complete. A long one without punctuation, while more text is to come, ends before a word such as "that" or "because",
where people breathe as well. Later pieces are whole sentences, because every cut costs intonation.
"""

import html
import re
import unicodedata
from collections.abc import Iterator

from satellite.languages import in_language
from satellite.pipeline.formulas import without_formulas
from satellite.pipeline.sentence_ends import CLOSING, is_abbreviation, sentence_ends
from satellite.pipeline.text_normalisation import written_out

_FIRST_PIECE_LETTERS = 10
_LONG_FIRST_PIECE_LETTERS = 24
_CLAUSE_MARKS = ",;:，；：、–—- "
_LONGEST_PIECE = 240
"""Characters after which a sentence is cut at a comma or a space, to limit the time for its synthesis."""

# These patterns search text from outside, so they must take linear time: repetitions are possessive (`++`, without
# backtracking), and the look-behinds keep a match from starting inside a run of the same characters.
_CLAUSE_END = re.compile(
    rf"""(?<![,;:.!?…])[,;:.!?…]++{CLOSING}(?=\s)|[。！？，；：、]|(?<!\d)[^\S\n][–—-]++(?=\s[^\s\d])|\n++"""
)
_CLAUSE_END_AT_ONCE = re.compile(r"(?:(?<=[^\W\d_]{3})[!?]|(?<=[^\W\d_]{2}),)$")
"""Ends the first piece before the next character is known. Other marks may be inside a name or an address."""

_IN_ADDRESS_OR_QUOTE = re.compile(r"[\"“„«]|[^\s/]\.[^\s.]*+$|/\S*+$")
"""Where the mark may be part of an address, or a quote be closed behind it."""

_ENTITY_END = re.compile(r"&#?\w{1,8};$")
"""A character of HTML by its name, whose semicolon is no mark."""

_JOINTS = {
    language: re.compile(rf"(?<!\s)\s++(?=(?:{words})\s)")
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
"""Words that begin a clause without punctuation, by language; German puts a comma before all others."""

_FENCE = "```"
_CODE_BLOCK = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_CONTROL_TOKEN = re.compile(r"<\|[^|<>]{0,64}\|>|</?s>|\[/?INST\]")
"""Marks of chat templates, which a model repeats if its template is wrong."""

_BLOCK_TAG = re.compile(r"</?(?:br|p|li|ul|ol|div|tr|h[1-6])\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<[!?][^<>]*>")
_IMAGE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")
_LINK = re.compile(r"\[([^\]]+)\]\((?:[^()]|\([^()]*+\))*+\)")
_URL = re.compile(r"\b(?:https?://|www\.)(?:\([^\s<>()]*+\)|[^\s<>()])++", re.IGNORECASE)
_HOST = re.compile(r"^(?:https?://)?(?:www\.)?([^/?#:]+)", re.IGNORECASE)
_LIST_MARK = re.compile(r"^[ \t]*(?:[-*+•>]|#{1,6})[ \t]+", re.MULTILINE)
_RULE = re.compile(r"^[ \t]*(?:[-*_=][ \t]*){3,}$", re.MULTILINE)
_EMPHASIS = re.compile(r"(\*{1,3}|_{2,3}|~~|`+)(?=\S)(.+?)(?<=\S)\1")
_UNDERSCORED = re.compile(r"(?<!\w)_(?=\S)(.+?)(?<=\S)_(?!\w)")
_TABLE_EDGE = re.compile(r"^[ \t]*\|(?:[ \t:|-]*$|[ \t]*)|[ \t]*\|[ \t]*$", re.MULTILINE)
_TABLE_BAR = re.compile(r"\s*\|\s*")
_CHECK_BOX = re.compile(r"^[ \t]*\[[ xX]?\][ \t]", re.MULTILINE)
_ARROW = re.compile(r"\s*(?:->|=>|[→⇒➔➜])\s*")
_ABOUT = re.compile(r"~\s?(?=\d)")
_TIMES = re.compile(r"(?<=\d)\s?\*\s?(?=\d)")
_EMOTICON = re.compile(r"(?<!\S)(?:[:;]-?[()DPp]|<3)(?!\S)")
_PAUSE = re.compile(r"\s*(?:\.{3,}|…)\s*(?=[^\W\d_])")
_MARKS_ALONE = re.compile(r"^[!?.,;:]+\s")
_RAW_PHONEMES = re.compile(r"\[\[|\]\]")
_SPACES = re.compile(r"\s+")
_SPACE_BEFORE_MARK = re.compile(r"\s+([,.;:!?])")
_EXTRA_COMMAS = re.compile(r"(?<=[.!?;:,])(?:\s*+,)++")
_REPEATED_MARK = re.compile(r"([!?.,;:])\1{2,}|([-=_*#~])\2{2,}")


def speakable(text: str) -> str:
    """Return `text` as a person would read it aloud: no markdown, tags, emoji, addresses or control characters.

    A link is read as its words, a bare URL as its host. Empty when nothing is left that can be spoken.
    """
    text = without_formulas(html.unescape(_CODE_BLOCK.sub(" ", text)))
    text = _CONTROL_TOKEN.sub(" ", text)
    text, blocks = _BLOCK_TAG.subn(", ", text)
    if blocks:
        text = _EXTRA_COMMAS.sub("", text).strip(", \n")
    text = _IMAGE.sub(r"\1", text)
    text = _LINK.sub(r"\1", text)
    text = _URL.sub(_host_of, text)
    text = _TAG.sub(" ", text)
    text = _RULE.sub(" ", text)
    text = _CHECK_BOX.sub("", _LIST_MARK.sub("", text))
    text = _EMOTICON.sub("", _ARROW.sub(", ", _ABOUT.sub("≈", _TIMES.sub(" × ", text))))
    text = _EMPHASIS.sub(r"\2", text)
    text = _UNDERSCORED.sub(r"\1", text)
    text = _RAW_PHONEMES.sub(" ", text)  # Piper reads [[...]] as phonemes
    text = _TABLE_BAR.sub(", ", _TABLE_EDGE.sub("", text)) if "|" in text else text
    text = _PAUSE.sub(", ", text)
    text = _REPEATED_MARK.sub(lambda match: match[1] or " ", text)
    text = "".join(_spoken(character) for character in unicodedata.normalize("NFC", text))
    text = _MARKS_ALONE.sub("", _SPACE_BEFORE_MARK.sub(r"\1", _SPACES.sub(" ", text)).strip())
    return text if any(character.isalnum() for character in text) else ""


def _host_of(match: re.Match[str]) -> str:
    address = match[0].rstrip(".,;:!?]\"'”’»*_")
    host = _HOST.match(address)
    return f"{host[1] if host else ' '}{match[0][len(address) :]}"


_KEPT_SYMBOLS = frozenset("$€£¥₹%+−=<>≈≤≥°&@§©®™×÷±µ#/√^")


def _spoken(character: str) -> str:
    """Return `character` if a voice can speak it or pause at it, else a space or nothing."""
    category = unicodedata.category(character)
    if category[0] in "LNPZ" or category in ("Mn", "Mc") or character in _KEPT_SYMBOLS:
        return " " if character in "\\*_`~" else character
    if category in ("Cf", "Me", "Sk") or "\ufe00" <= character <= "\ufe0f":
        return ""
    return " "


class ClauseSplitter:
    """Collects pieces of text and yields those to synthesise, one after the other."""

    def __init__(self, language: str | None = None) -> None:
        """`language` of the voice, such as `en_US`."""
        self._language = language
        self._joint = in_language(_JOINTS, language)
        self._text = ""
        self._at = 0
        self._in_code = False
        self._first = True
        self._deltas = 0

    def feed(self, delta: str) -> Iterator[str]:
        """Yield the speakable pieces that `delta` completes."""
        self._text = self._text[self._at :] + delta
        self._at = 0
        self._deltas += 1
        while (end := self._piece_end()) is not None:
            yield from self._emit(self._take(end))
        if (end := self._joint_end()) is not None:
            yield from self._emit(f"{self._take(end)},")  # for the voice to stay up

    def flush(self) -> Iterator[str]:
        """End the text, and yield the rest of it."""
        rest = "" if self._in_code else self._take(len(self._text) - self._at)
        self._text, self._at, self._deltas, self._in_code = "", 0, 0, False
        yield from self._emit(rest)
        self._first = True

    def _take(self, length: int) -> str:
        began, self._at = self._at, self._at + length
        return self._text[began : self._at]

    def _emit(self, piece: str) -> Iterator[str]:
        spoken = written_out(speakable(piece), self._language)
        if spoken:
            self._first = False
            yield spoken

    def _piece_end(self) -> int | None:
        """Return the length of the next piece, or None while more text is needed."""
        if self._in_code and not self._pass_code():
            return None
        # Only as much text as the longest piece has is searched, so that the work is linear in the text.
        window = self._text[self._at : self._at + _LONGEST_PIECE + 1]
        if (fence := window.find(_FENCE)) >= 0:
            self._in_code = fence == 0
            return fence or len(_FENCE)
        is_all = len(window) <= _LONGEST_PIECE
        end = self._clause_end(window, is_all=is_all) if self._first else self._sentence_end(window)
        return _cut(window) if end is None and not is_all else end

    def _pass_code(self) -> bool:
        """Skip code, and return whether it ends in the text so far."""
        closing = self._text.find(_FENCE, self._at)
        self._in_code = closing < 0
        self._at = closing + len(_FENCE) if closing >= 0 else max(self._at, len(self._text) - len(_FENCE) + 1)
        return not self._in_code

    def _joint_end(self) -> int | None:
        """Return where a first piece without punctuation ends, if the text is long by now and arrives in pieces."""
        if self._joint is None or not self._first or self._deltas < 2 or self._in_code:
            return None
        text = self._text[self._at :]
        letters = at = 0
        for match in self._joint.finditer(text):
            letters, at = letters + _letters(text[at : match.start()]), match.start()
            if letters >= _LONG_FIRST_PIECE_LETTERS:
                return at
        return None

    def _clause_end(self, window: str, *, is_all: bool) -> int | None:
        """Return where the first piece of a text ends in `window`, which is all of the text so far or its beginning."""
        sentences = set(sentence_ends(window, self._language, is_all=False))
        letters = at = 0
        for match in _CLAUSE_END.finditer(window):
            if match[0][0] == ";" and _ENTITY_END.search(window[max(0, match.start() - 9) : match.start() + 1]):
                continue
            letters, at = letters + _letters(window[at : match.end()]), match.end()
            if letters and (at in sentences or (match[0][0] in _CLAUSE_MARKS and letters >= _FIRST_PIECE_LETTERS)):
                return at
        last = _CLAUSE_END_AT_ONCE.search(window, at) if is_all else None
        if last is None or _IN_ADDRESS_OR_QUOTE.search(window, at):
            return None
        is_clause = last[0] in _CLAUSE_MARKS and letters + _letters(window[at:]) < _FIRST_PIECE_LETTERS
        return None if is_clause else last.end()

    def _sentence_end(self, window: str) -> int | None:
        """Return where a sentence ends in `window`."""
        letters = at = 0
        for end in sentence_ends(window, self._language, is_all=False):
            letters, at = letters + _letters(window[at:end]), end
            if letters:
                return end
        return None


def _letters(text: str) -> int:
    return sum(character.isalnum() for character in text)


def _cut(window: str) -> int:
    """Return where to cut a sentence that goes on too long: at a comma, else at a space, else hard."""
    head = window[:_LONGEST_PIECE]
    for mark in (", ", "; ", " "):
        if (at := head.rfind(mark)) > _LONGEST_PIECE // 3:
            return at + len(mark)
    return _LONGEST_PIECE


def finished(text: str) -> str:
    """Return `text` up to the end of its last complete sentence, or all of it if none is complete."""
    text = text.strip()
    return text[: max(sentence_ends(text), default=len(text))].strip()


def is_finished(text: str) -> bool:
    """Return whether `text` ends with a complete sentence."""
    text = text.strip()
    return len(text) in sentence_ends(text) and not is_abbreviation(text, None)


def pieces(text: str) -> Iterator[str]:
    """Yield a complete `text` in speakable pieces."""
    splitter = ClauseSplitter()
    yield from splitter.feed(text)
    yield from splitter.flush()
