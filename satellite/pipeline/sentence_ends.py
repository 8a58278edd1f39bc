"""Where sentences end: at a mark that is part of no abbreviation, number, name or address, before a new beginning.

A mark ends a sentence only if what follows it does not continue it: a lower-case letter or a digit does. So the end is
known with the next character after the white space, and of text that is still being generated that character is
waited for. All patterns take linear time.
"""

import re
from collections.abc import Iterator

from satellite.languages import family

_MARKS = re.compile(r"""(?<![.!?…])[.!?…]++["'”’»)\]]*+(?=\s)|[。！？]["'”’）」]*+|\n++""")
_OPENING = re.compile(r"""[\s"'“‘«„(\[¿¡*_-]*+""")

_TAIL_CHARACTERS = 24
"""Longer than any abbreviation, and than a number with the white space before it."""

_INITIALS = re.compile(r"(?:^|[\s('\"«-])(?:(?!I\.)[^\W\d_]\.|(?:[A-Z]\.){2,})$")
"""A single letter, except "I", or capitals: initials, or a part of an abbreviation with spaces, such as "z. B."."""

_LIST_NUMBER = re.compile(r"\s*+\d++\.$")
_GERMAN_ORDINAL = re.compile(
    r"(?:\b(?:am|ab|bis|das|dem|den|der|des|die|im|seit|und|vom|zum)|,)\s\d{1,2}\.$", re.IGNORECASE
)
"""A number before a month or another noun, which German writes with a capital; other languages do not."""

_ABBREVIATIONS = frozenset(
    (  # noqa: SIM905  # one word a line would be a hundred lines
        # Those that a name or a capital follows. What may end a sentence, as "etc." and "p.m." do, needs no entry:
        # before a capital it ends one, before anything else it does not.
        "mr mrs ms mx dr prof st mt rev hon gen col sgt capt lt gov sen rep vs e.g i.e cf approx fig vol dept est "
        "m mm mlles mmes me bd env p.ex c.-à-d tél chap éd janv févr avr juil "  # fr
        "hr fr frl dipl ing z.b d.h u.a u.u o.ä i.d.r s.o s.u bzw ca ggf evtl inkl exkl vgl nr str abs mio mrd "  # de
        "sr sra srta sres dra dña ud uds vd vds p.ej aprox núm pág avda ee uu "  # es
        "sig sigg dott avv arch geom on egr gent pag "  # it
        "dhr mevr mw drs ir bijv d.w.z o.a m.a.w m.b.t t.a.v blz jl a.s "  # nl
        "exmo exma eng arq "  # pt
        "jan feb mar apr jun jul aug sep sept oct okt nov dec dez tel max min "  # months and measures of all
    ).split()
)
_WORD = re.compile(r"[^\s(\"'“‘«„\[]+\.$")


def sentence_ends(text: str, language: str | None = None, *, is_all: bool = True) -> Iterator[int]:
    """Yield the end of each sentence in `text`, the marks and quotes after it included.

    Unless `is_all`, more text is to come, and a mark at the end of `text` may yet turn out to be inside a sentence.
    """
    end_of_text = len(text)
    if is_all and text and not text[-1].isspace():
        text += "\n"
    for match in _MARKS.finditer(text):
        if match.start() < end_of_text and _ends_sentence(text, match, language, is_all=is_all):
            yield match.end()


def is_abbreviation(before: str, language: str | None) -> bool:
    """Return whether the full stop at the end of `before` belongs to its last word, whatever follows."""
    tail = before[-_TAIL_CHARACTERS:]
    if _INITIALS.search(tail) or _LIST_NUMBER.fullmatch(tail):
        return True
    if family(language or "") == "de" and _GERMAN_ORDINAL.search(tail):
        return True
    word = _WORD.search(tail)
    return word is not None and word[0][:-1].lower() in _ABBREVIATIONS


def _ends_sentence(text: str, match: re.Match[str], language: str | None, *, is_all: bool) -> bool:
    if match[0][0] in "\n。！？":
        return True
    at = _OPENING.match(text, match.end())
    following = "" if at is None else text[at.end() : at.end() + 1]
    is_line_end = "\n" in text[match.end() : at.end() if at else None]
    if not following and not is_line_end:
        return False  # what follows is not known yet
    if not is_line_end and (following.islower() or following.isdigit()):
        return False
    is_last = is_all and not following
    return not match[0].startswith(".") or is_last or not is_abbreviation(text[: match.start() + 1], language)
