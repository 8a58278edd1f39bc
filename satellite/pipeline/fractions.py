"""Fractions with what they measure: "1 1/2 litre" is "un litre et demi", "½ taza" is "media taza"."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_FRACTION = r"(?<![\d/.,-])(?:(\d{1,3})\s?(?=[½¼¾⅓⅔⅛])|(\d{1,3})\s(?=\d/))?([½¼¾⅓⅔⅛]|\d/\d)(?![\d/])"
_SIGNS = {"½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "⅛": "1/8"}
_OF_SPOONS = r"(?:\sà\s(?:soupe|café|thé))?"


@dataclass(frozen=True, slots=True)
class _Nouns:
    """How a language combines fractions and nouns; of two forms the first is that of most nouns, often masculine."""

    second: str
    """Pattern of the nouns with the second form."""

    first: str
    """Pattern of the nouns that `second` matches by mistake."""

    half: tuple[str, str]
    """Half of a noun."""

    no_nouns: str
    """Words after a fraction that are none."""

    one: tuple[str, str] = ("", "")
    and_half: tuple[str, str] | None = None
    """What stands after the noun."""

    of: str = ""
    """Between a part and its noun."""


_NOUNS = {
    "fr": _Nouns(
        second=r"\w+es?|fois",
        first=r"(?:kilo|centi|milli|déci)?(?:litre|gramme|mètre)s?|verres?|siècles?|concombres?|légumes?|pamplemousses?",
        half=("un demi-", "une demi-"),
        no_nouns="des|est|sont|pour|par|sur|les|dans|avec|soit|que|qui|puis|plus|moins|environ",
        one=("un", "une"),
        and_half=("et demi", "et demie"),
        of="de ",
    ),
    "es": _Nouns(
        second=r"\w+(?:as?|ci[oó]n(?:es)?)|vez|veces",
        first="días?",
        half=("medio ", "media "),
        no_nouns="del|por|para|con|que|los|las|más|menos|son|partes",
        one=("un", "una"),
        and_half=("y medio", "y media"),
        of="de ",
    ),
    "it": _Nouns(
        second=r"\w+[ae]",
        first="bicchiere|mese|limone|peperone",
        half=("mezzo ", "mezza "),
        no_nouns="del|della|dei|delle|per|con|che|sono|più|meno",
        one=("un", "una"),
        and_half=("e mezzo", "e mezza"),
        of="di ",
    ),
    "pt": _Nouns(
        second=r"\w+as?|colher(?:es)?|vez|vezes",
        first="dias?|(?:quilo)?gramas?",
        half=("meio ", "meia "),
        no_nouns="dos|das|por|para|com|que|mais|menos|são",
        one=("um", "uma"),
        and_half=("e meio", "e meia"),
        of="de ",
    ),
    "de": _Nouns(
        second=r"\w+e|Zwiebel",
        first="",
        half=("ein halber ", "eine halbe "),
        no_nouns=r"[a-zäöü]\w*",
    ),
    "nl": _Nouns(
        second=r"uur(?:tje)?|jaar|kopje|glas|pond|ons|pak|blik|brood|stuk|\w+je",
        first="",
        half=("een halve ", "een half "),
        no_nouns="van|en|of|met|voor|door|keer|meer|minder|het|deel",
    ),
}
_GERMAN_NEUTER = re.compile(r"Bund|Kilo|Pfund|Glas|Jahr|Dutzend|Brot|Stück|Blatt|\w+chen")


class Fractions:
    """The fractions of one language."""

    def __init__(self, language: str, words: Mapping[str, Any], spelled: Callable[[int], str]) -> None:
        """`words` are those of the language in `spoken_forms.yaml`; `spelled` says a number there."""
        self._words = words
        self._and: str = words["signs"]["&"]
        self._spelled = spelled
        self._language = language
        self._nouns = _NOUNS.get(language)
        units = "|".join(re.escape(unit) for unit in sorted(words["units"], key=len, reverse=True))
        measured = rf"(?:(?:\s?({units})|\s([^\W\d_]{{3,20}}{_OF_SPOONS}))(?![\w/²³]))?" if self._nouns else "()()"
        self.pattern = re.compile(_FRACTION + measured)

    def said(self, match: re.Match[str]) -> str:
        """Return a match of `pattern` in words."""
        fraction = _SIGNS.get(match[3], match[3])
        if fraction not in self._words["fractions"]:
            return match[0]
        whole, nouns, noun = match[1] or match[2] or "", self._nouns, match[5] or ""
        if match[4]:
            forms = self._words["units"][match[4]]
            noun = forms[0] if not whole or (whole == "1" and self._language != "de") else forms[1]
        if nouns and noun and not re.fullmatch(nouns.no_nouns, noun):
            return self._with_noun(nouns, noun, whole, fraction)
        rest = f" {noun}" if noun else ""
        if whole and fraction == "1/2":
            return f"{self._and_a_half(whole)}{rest}"
        said = self._words["fractions"][fraction]
        return (f"{whole} {self._and} {said}" if whole else str(said)) + rest

    def _and_a_half(self, whole: str) -> str:
        if self._language == "de":
            return f"{'ein' if whole == '1' else self._spelled(int(whole))}{self._words['and_a_half']}"
        return f"{whole} {self._words['and_a_half']}"

    def _with_noun(self, nouns: _Nouns, noun: str, whole: str, fraction: str) -> str:
        head, is_half = noun.split()[0], fraction == "1/2"
        is_second = bool(re.fullmatch(nouns.second, head)) and not re.fullmatch(nouns.first, head)
        half, said = nouns.half[is_second], self._words["fractions"][fraction]
        if not whole:
            if is_half:
                is_neuter = self._language == "de" and _GERMAN_NEUTER.fullmatch(head)
                return f"{'ein halbes ' if is_neuter else half}{noun}"
            of = "d'" if self._language == "fr" and head[0].lower() in "aeiouhéèêœ" else nouns.of
            return f"{said} {of}{noun}"
        if nouns.and_half:
            number = whole
            if whole == "1" and not noun.endswith("i"):
                number = nouns.one[is_second]
                noun = noun if head in ("fois", "vez") else noun.replace(head, head.rstrip("s"))
            return f"{number} {noun} {nouns.and_half[is_second] if is_half else f'{self._and} {said}'}"
        if self._language == "nl" and is_half:
            one = "anderhalf" if is_second else "anderhalve"
            return f"{one} {noun}" if whole == "1" else f"{whole} en {half}{noun}"
        return f"{self._and_a_half(whole) if is_half else f'{whole} {self._and} {said}'} {noun}"
