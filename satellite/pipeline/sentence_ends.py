"""Where sentences end: at a mark that is part of no abbreviation, number, name or address, before a new beginning.

A mark ends a sentence only if what follows it does not continue it: a lower-case letter or a digit does. So the end is
known with the next character after the white space, and of text that is still being generated that character is
waited for. All patterns take linear time.
"""

import re
from collections.abc import Iterator

from satellite.languages import family, in_language

CLOSING = r"""(?:["'”’“‘»«)\]*_]|[ \u00a0\u202f]»)*+"""
"""Quotes of all languages, brackets and marks of emphasis that close behind the end of a sentence."""

_MARKS = re.compile(rf"""(?<![.!?…])[.!?…]++{CLOSING}(?=\s)|[。！？]["'”’）」]*+|\n++""")
_OPENING = re.compile(r"""[\s"'“‘«„(\[¿¡*_-]*+""")

_TAIL_CHARACTERS = 24
"""Longer than any abbreviation, and than a number with the white space before it."""

_HALF_OF_DAY = re.compile(r"\d\s?[ap]\.m\.$")
_AFTER_TIME = (
    *("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "January", "February", "March"),
    *("April", "May", "June", "July", "August", "September", "October", "November", "December", "Eastern", "Central"),
    *("Pacific", "Mountain", "EST", "EDT", "PST", "PDT", "CST", "CDT", "GMT", "UTC", "BST", "CET"),
)
"""What goes on after "p.m." with a capital."""

_ERA = re.compile(r"(?:Chr|C|J\.-C)\.")
"""As in "300 n. Chr." and "300 a. C."."""

_DUTCH_BEGINNING = re.compile(r"['’][a-z]\s[A-Z]")
"""As in "'t Is"."""

_LETTERS = re.compile(r"[A-Za-z]*+")
_INITIALS = re.compile(r"(?:^|(?<!\d)\s|[(\"«-]|(?<![^\W\d_])')(?:(?!I\.)[^\W\d_]\.|(?:[A-Z]\.){2,})$")
"""A single letter, except "I", or capitals: initials, or a part of an abbreviation with spaces, such as "z. B.".

No unit, as in "9 h.", and no end of a word, as in "don't."."""

_LIST_NUMBER = re.compile(r"(?:^|\n|[.!?:;]\s)[^\S\n]*+\d++\.$")
_GERMAN_ORDINAL = re.compile(
    r"(?:\b(?:am|ab|bis|das|dem|den|der|des|die|im|seit|und|vom|zum)|,)\s(?:\d{1,2}|[IVX]{1,6})\.$", re.IGNORECASE
)
"""A number before a month or another noun, which German writes with a capital; other languages do not."""

_OF_ALL = "Mr Mrs Ms Mx Dr Prof prof St vs e.g E.g i.e I.e cf Cf approx Approx vol Vol tel Tel"
_ABBREVIATIONS = {
    language: frozenset(f"{_OF_ALL} {words}".split())
    for language, words in {
        # Those that a name or a capital follows. What may end a sentence, as "etc." and "p.m." do, needs no entry:
        # before a capital it ends one, before anything else it does not. Case and language matter: "me." and "on."
        # end sentences in English, "Me" is a lawyer in French, and "On" a deputy in Italian.
        "en": "Mt Rev Hon Gen Col Sgt Capt Lt Gov Sen Rep Fig dept Dept",
        "fr": "Pr Av M MM Mlle Mlles Mme Mmes Me Bd bd av apr env p.ex P.ex c.-à-d tél Tél chap éd",
        "de": "Hr Fr Frl Dipl Ing Nr nr Str Abs Mio Mrd z.B Z.B d.h D.h u.a u.U o.Ä i.d.R s.o s.u bzw ca Ca ggf Ggf "
        "evtl Evtl inkl exkl vgl Vgl max min med jur phil rer nat Co",
        "es": "Sr Sra Srta Sres Dra Dña Ud Uds ud uds Vd Vds p.ej P.ej aprox núm pág Avda EE",
        "it": "Sig sig Sigg Dott dott Avv avv Arch arch Geom geom Ing ing On Egr egr Gent gent pag",
        "nl": "Dhr dhr Mevr mevr Mw mw Drs drs Ir ir Bijv bijv d.w.z o.a m.a.w m.b.t t.a.v blz jl a.s dr prof mr",
        "pt": "Sr Sra Sres Srta Dra Exmo Exma Eng Arq pág",
    }.items()
}
_ANY = frozenset().union(*_ABBREVIATIONS.values())
_WORD = re.compile(r"[^\s(\"'“‘«„\[]+\.$")

_CAPITALS = re.compile(r"(?:^|(?<![a-zäöü]\.)[\s('\"«-])[A-Z]\.$|(?:^|[\s('\"«-])(?:[A-Z]\.){2,}$")
"""A single capital, or several: "Plan B.", "the U.S."; no part of "z. B."."""

_BEGINNINGS = {
    language: frozenset(words.split())
    for language, words in {
        # Words with which no name goes on after an initial, as it does in "J. Le Goff", "J. De Vries" and "K. He".
        "en": "The It It's This That That's These There They They're She We We're I'm If When What Where Why How But "
        "However Please Then Yes",
        "fr": "Il Elle Ils Elles C'est Ce Cela Ça Nous Vous Mais Donc Si Quand Une Un",
        "de": "Der Die Das Es Er Sie Wir Ihr Ich Dies Diese Dieser Dieses Wenn Aber Dann Ein Eine",
        "es": "Es Está Esto Este Esta Ella Ellos Ellas Pero Si Cuando Una Un Hay",
        "it": "È Questo Questa Ma Se Quando Non Ci",
        "nl": "Het Dit Dat Deze Maar Als Wanneer Ik Hij Zij We Wij Een",
        "pt": "É Este Esta Isso Isto Mas Se Quando Não Ele Ela Um Uma",
    }.items()
}
_ANY_BEGINNING = frozenset().union(*_BEGINNINGS.values())
_NEXT_WORD = re.compile(r"([^\W\d_]{1,12}+(?:['’][^\W\d_]{1,12}+)?+)[\s,:;.!?…]")


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
    if _INITIALS.search(tail) or _LIST_NUMBER.search(tail):
        return True
    if family(language or "") == "de" and _GERMAN_ORDINAL.search(tail):
        return True
    word = _WORD.search(tail)
    return word is not None and word[0][:-1] in (in_language(_ABBREVIATIONS, language) or _ANY)


def _ends_sentence(text: str, match: re.Match[str], language: str | None, *, is_all: bool) -> bool:
    if match[0][0] in "\n。！？":
        return True
    opening = _OPENING.match(text, match.end())
    assert opening is not None  # it may be empty
    following = text[opening.end() : opening.end() + 1]
    is_line_end = "\n" in opening[0]
    if not following and not is_line_end:
        return False  # what follows is not known yet
    if not is_line_end and (following.islower() or following.isdigit()):
        return bool(_DUTCH_BEGINNING.match(text, opening.end() - 1))
    if _ERA.match(text, opening.end()):
        return False
    is_last = is_all and not following
    tail = text[max(0, match.start() + 1 - _TAIL_CHARACTERS) : match.start() + 1]
    if _HALF_OF_DAY.search(tail) and _is_day(text, opening.end(), is_all=is_all):
        return False
    if not match[0].startswith(".") or is_last or not is_abbreviation(tail, language):
        return True
    # After capitals a name may go on, as in "J. R. R. Tolkien": the next word tells, once it is known.
    word = _NEXT_WORD.match(text, opening.end())
    beginnings = in_language(_BEGINNINGS, language) or _ANY_BEGINNING
    return word is not None and bool(_CAPITALS.search(tail)) and word[1].replace("’", "'") in beginnings


def _is_day(text: str, at: int, *, is_all: bool) -> bool:
    """Return whether the word at a place is one that follows "p.m.", or may still become one."""
    letters = _LETTERS.match(text, at, at + 12)
    assert letters is not None  # it may be empty
    is_growing = letters.end() == len(text) and not is_all
    return any(word == letters[0] or (is_growing and word.startswith(letters[0])) for word in _AFTER_TIME)
