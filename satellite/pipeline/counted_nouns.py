"""Numbers that agree with what they count: "1 heure" is "une heure", "21 minutos" "veintiún minutos"."""

import re
from collections.abc import Callable, Mapping
from typing import Any

_NO_NOUN = "(?!)"
_MOST = 999_999
_LONGEST_LABEL = 32
_VOWELS = tuple("aeiouàèéìòù")
_ITALIAN_UNO = re.compile(r"(?:s[^aeiou]|z|gn|ps|x|y)")
"""Before these beginnings of a noun "uno" stays as it is."""


class CountedNouns:
    """The numbers of one language whose words have a gender, by the nouns of `counted` in `spoken_forms.yaml`."""

    def __init__(self, language: str, words: Mapping[str, Any], cardinals: Callable[[int], Mapping[str, str]]) -> None:
        """`words` are those of the language; `cardinals` returns a number in words by CLDR's name of the rules."""
        self._language = language
        self._cardinals = cardinals
        counted = words.get("counted", {})
        feminine, masculine = counted.get("feminine", _NO_NOUN), counted.get("masculine", _NO_NOUN)
        self._feminine, self._nouns = re.compile(feminine), re.compile(f"{feminine}|{masculine}")
        self._label = re.compile(rf"\b(?:{words['numbered']}|{counted.get('labels', _NO_NOUN)})\s$", re.IGNORECASE)
        self._highest = counted.get("highest", _MOST)
        self._clock = counted.get("clock", "")
        between = rf"(?:\s(?:{words['range']}|{counted.get('or', _NO_NOUN)})\s\d{{1,6}})?"
        self.pattern = re.compile(
            rf"(?:\b({counted.get('before', _NO_NOUN)})\s)?(?<![\w.,:/–−-])(?<!\d[ \u00a0\u202f])"
            rf"([1-9]\d{{0,5}})({between})\s({feminine}|{masculine})(?!\w)"
        )

    def said(self, match: re.Match[str]) -> str:
        """Return a match of `pattern` with its number in words, where they differ from what a voice reads."""
        if self._label.search(match.string, max(0, match.start() - _LONGEST_LABEL), match.start()):
            return match[0]  # "Zimmer 1 Licht", "page 1 ligne 3"
        before, number, between, noun = match[1] or "", int(match[2]), match[3], match[4]
        form = "feminine" if self._feminine.fullmatch(noun) else "masculine"
        if before and self._language == "de":
            form = {"feminine": "r", "masculine": "m"}[form]  # in einer Stunde, in einem Jahr
        said = self._words(number, form)
        if said is None or (said == "un" and self._language == "it" and _ITALIAN_UNO.match(noun)):
            return match[0]
        if number == 1 and not between and self._nouns.fullmatch(noun.removesuffix("s")):
            noun = noun.removesuffix("s")  # Home Assistant's "1 minutes"
        if said == "una" and self._language == "it" and not between and noun.startswith(_VOWELS):
            return f"un'{noun}"
        if before and self._language == "fr" and said.startswith("un"):
            return f"{before.removesuffix('e')}'{said}{between} {noun}"
        return f"{before} {said}{between} {noun}".lstrip()

    def on_clock(self, part: str, number: int) -> str:
        """Return the `hour` or `minute` of a time of the day, as the noun requires that is meant or follows."""
        return (self._words(number, "feminine") if part == self._clock else None) or str(number)

    def _words(self, number: int, form: str) -> str | None:
        if number > self._highest:
            return None
        rules = self._cardinals(number)
        said = rules[f"spellout-cardinal-{form}"]
        return None if said == rules["spellout-numbering"] else said.replace("\u00ad", "")
