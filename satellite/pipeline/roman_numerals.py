"""Roman numerals: of kings, centuries and chapters, as each language says them."""

import re
from collections.abc import Callable, Mapping
from typing import Any

_NUMERAL = re.compile(r"(?<=[^\W\d_]\s)(?=[XVI])(X{0,3})(IX|IV|V?I{0,3})(?!['’\w-])(?:\.(?=\s[a-zà-ÿ]|[,;:)]))?")
_FRENCH_ORDINAL = re.compile(r"(?<!\w)(?=[XVI])(X{0,3})(IX|IV|V?I{0,3})(er|ère|re|e|ᵉ|ème)(?!\w)")
_AFTER_KING = re.compile(r"$|[,.;:)]|\s(?:e|et|en|und|y|de|di|von|van)\s")
_QUEEN = re.compile(r"(?:a|Isabel|Elisabeth|Elizabeth|Beatrix|Margrethe)\s$")
_NAME_BEFORE = re.compile(r"[A-ZÀ-ÖØ-Þ]\w*\s$")
_GERMAN_ORDINAL = re.compile(
    r"(?<!\w)([Dd](?:er|ie|as|em|en|es)|[Ii]m|[Zz]um|[Vv]om)\s(?=[XVI])(X{0,3})(IX|IV|V?I{0,3})\.(?=\s[A-ZÄÖÜ])"
)
"""As in "der II. Weltkrieg"."""

_FEMININE = ("re", "ère")
_UNITS = {name: value for value, name in enumerate(["", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"])}


def with_german_ordinals(text: str) -> str:
    """Return German `text` with ordinals such as "der II. Weltkrieg" in digits."""
    return _GERMAN_ORDINAL.sub(lambda match: f"{match[1]} {_value(match[2], match[3])}.", text)


class RomanNumerals:
    """How one language says Roman numerals."""

    def __init__(self, language: str, words: Mapping[str, Any], ordinal: Callable[..., str]) -> None:
        """`words` are those of the language in `spoken_forms.yaml`; `ordinal(number, is_feminine=)` says an ordinal."""
        self._language = language
        self._words = words
        self._ordinal = ordinal

    def written_out(self, text: str) -> str:
        """Return `text` with what is a Roman numeral in words or digits."""
        if self._language == "fr":
            text = _FRENCH_ORDINAL.sub(
                lambda match: self._ordinal(_value(match[1], match[2]), is_feminine=match[3] in _FEMININE), text
            )
        return _NUMERAL.sub(self._said, text)

    def _said(self, match: re.Match[str]) -> str:
        number = _value(match[1], match[2])
        before = match.string[max(0, match.start() - 20) : match.start()]
        is_numbered = re.search(rf"\b(?:{self._words['numbered']})\s$", before, re.IGNORECASE)
        if len(match[0].rstrip(".")) == 1 and not self._is_number(match, number, before, is_numbered=bool(is_numbered)):
            return match[0]
        if is_numbered:
            return str(number)
        is_queen = bool(_QUEEN.search(before))
        ordinal = self._ordinal(number, is_feminine=is_queen)
        is_after_article = self._language == "en" and before.lower().endswith("the ")
        if is_after_article or number < self._words.get("roman_ordinals_below", 0):
            return ordinal
        form = "roman_queen" if is_queen and "roman_queen" in self._words else "roman"
        return str(self._words[form].format(number=number, ordinal=ordinal))

    def _is_number(self, match: re.Match[str], number: int, before: str, *, is_numbered: bool) -> bool:
        """Return whether a single letter, which may be a word, and X any name, follows "Part" or a person's name."""
        is_name = bool(_NAME_BEFORE.search(before))
        after = match.string[match.end() - match[0].endswith(".") :][:8]
        is_king = number == 5 or (number == 1 and self._language != "en" and bool(_AFTER_KING.match(after)))
        return (is_numbered and (is_name or self._language != "en")) or (is_name and is_king)


def _value(tens: str, units: str) -> int:
    return 10 * len(tens) + _UNITS[units]
