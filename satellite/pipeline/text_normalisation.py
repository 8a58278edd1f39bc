"""Text normalisation: numbers with signs and units, times, dates, addresses and capitals written out for a voice.

Voices read plain numbers by themselves, but say a minus sign, a unit or a range in some languages only, or in English.
The words of each language are in `spoken_forms.yaml`; in a language without them, text stays as it is.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from satellite.languages import closest, read_yaml

if TYPE_CHECKING:
    from unicode_rbnf import RbnfEngine

# All repetitions are of characters that no other part of the same pattern takes, or bounded: the time is linear.
_NUMBER = r"\d{1,15}(?:[.,\u00a0\u202f ]\d{3}(?!\d))*(?:[.,]\d{1,9}(?!\d))?"
_EMAIL = re.compile(r"(?<![\w.+-])([\w.+-]{1,64})@([\w-]{1,63}(?:\.[\w-]{1,63})+)")
_INNER_DOT = re.compile(r"(?<=[^\W\d_]{2})\.(?=[^\W\d_]{2})")
"""A point within a name, such as that of a file or a host; "e.g." and "z.B." have single letters."""

_ISO_DATE = re.compile(r"\b(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])\b")
_DATE = re.compile(r"\b(\d{1,2})([./-])(\d{1,2})\2(\d{4})\b")
_TIME = r"(?<![\d:])([01]?\d|2[0-3]):([0-5]\d)(?![\d:])(\s?(?:[ap]\.?m|[AP]M)\b)?"
_FRENCH_TIME = re.compile(r"\b([01]?\d|2[0-3])\s?[hH]\s?([0-5]\d)?\b")
_VERSION = re.compile(r"\b(versi\w+\s)?(v?)(\d+(?:\.\d+){2,8}|(?<=v)\d+(?:\.\d+)?)\b", re.IGNORECASE)
_GROUPED = re.compile(r"\d{1,3}(?:\.\d{3})+")
_PHONE = re.compile(
    r"(?<![\w.,-])(?<!\d\s)(?:(?:\+\d|0\d|\(0\d)[\d ()/.-]{4,17}\d|(?:\(\d{3}\)\s?|\d{3}-)?\d{3}-\d{4})(?![\w-])"
)
_LEAST_PHONE_DIGITS = 7
"""02/2024 is a month."""

_SUBTRACTION = re.compile(r"(?<=\d)\s?−\s?(?=\d)")  # the minus sign
_MINUS = re.compile(r"(?<![\w)\]–-])[-−](?=\d)")  # the minus sign
_RANGE = re.compile(rf"(?<![\w.,-])({_NUMBER})(\s?[-–]\s?)({_NUMBER})(?![\w-])")
_ROMAN = re.compile(r"(?<=[^\W\d_]\s)(?=[XVI]{2})(X{0,3})(IX|IV|V?I{0,3})(?!['’\w])(?:\.(?=\s[a-zà-ÿ]))?")
_LETTER_WORD = re.compile(r"[^\W\d_]{2,}")
_SPELLED = re.compile(
    r"(?<![\w-])(?:AI|API|BBC|BMW|CD|CPU|DNA|DNS|DVD|EU|FM|GPS|GPU|HD|HDMI|HTML|HTTPS?|IBM|IP|LCD|LED|MQTT|NFC|PC|PDF|"
    r"SMS|SSD|TV|UK|UN|URL|USA|USB|UV|VPN|VW|XML)(?!\w)"
)
"""Abbreviations that voices read as words in some languages. Which capitals are spelled, no rule tells."""

_CAPITALS = re.compile(r"(?<![\w-])[A-ZÀ-ÖØ-Þ]{5,}(?![\w-])")
_FEMININE = ("ª", ".ª", "re", "ère")
_GERMAN_ORDINAL = re.compile(r"\b(?:([Dd](?:er|ie|as))\s)?(?<![\d.,])(\d{1,2})\.(?=\s[A-ZÄÖÜ])")
_ROMAN_UNITS = {name: value for value, name in enumerate(["", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"])}


def written_out(text: str, language: str | None) -> str:
    """Return `text`, a sentence or a part of one, as a voice of `language` is to read it."""
    code = closest(language, _words()) if language else None
    return text if code is None else _forms(code).applied(text)


@cache
def _words() -> Mapping[str, Any]:
    return read_yaml("satellite.pipeline", "spoken_forms.yaml")


@cache
def _forms(code: str) -> "_Forms":
    return _Forms(code, _words()[code])


class _Forms:
    """How one language says what is no plain word."""

    def __init__(self, language: str, words: Mapping[str, Any]) -> None:
        self._language = language
        self._words = words
        units = "|".join(re.escape(unit) for unit in sorted(words["units"], key=len, reverse=True))
        currencies = "".join(re.escape(sign) for sign in words["currencies"])
        scale = rf"(?:\s(?:{words['scales']})(?!\w))?"
        signs = "".join(re.escape(sign) for sign in words["signs"])
        self._unit = re.compile(rf"(?<![\w.,{currencies}])({_NUMBER})\s?({units})(?![\w²³/°])")
        self._price = re.compile(
            rf"([{currencies}])\s?({_NUMBER})({scale})(?!\w|[.,]\d)|(?<![\w.,])({_NUMBER})({scale})\s?([{currencies}])"
        )
        self._clock = re.compile(rf"{_TIME}(?:\s(?:{words['clock']})(?!\w))?")
        self._sign = re.compile(rf"\s?([{signs}])\s?(?=[\w(-])")
        self._ordinal = re.compile(rf"\b(\d{{1,4}})({words['ordinals']})(?!\w)") if "ordinals" in words else None

    def applied(self, text: str) -> str:
        """Return `text` written out."""
        if text.isupper() and sum(not _SPELLED.fullmatch(word) for word in _LETTER_WORD.findall(text)) > 1:
            text = _LETTER_WORD.sub(lambda match: match[0] if _SPELLED.fullmatch(match[0]) else match[0].lower(), text)
            text = text[0].upper() + text[1:]
        text = _EMAIL.sub(rf"\1 {self._words['at']} \2", text)
        text = _INNER_DOT.sub(f" {self._words['dot']} ", text)
        if any(character.isdigit() for character in text):
            text = self._numbers(text)
        text = self._sign.sub(lambda match: f" {self._words['signs'][match[1]]} ", text).strip()
        text = _ROMAN.sub(self._roman, text)
        text = _SPELLED.sub(lambda match: " ".join(match[0]), text)
        return _CAPITALS.sub(lambda match: match[0].lower(), text)

    def _numbers(self, text: str) -> str:
        words = self._words
        # In this order: what looks like two things, such as a date and a range, is the first of them.
        steps: Sequence[tuple[re.Pattern[str] | None, Callable[[re.Match[str]], str]]] = (
            (_ISO_DATE, lambda match: self._date(int(match[3]), int(match[2]), match[1])),
            (_DATE, self._written_date),
            (_VERSION, self._version),
            (_PHONE, self._phone),
            (self._clock, lambda match: self._time(int(match[1]), int(match[2]), match[3] or "")),
            (
                _FRENCH_TIME if self._language == "fr" else None,
                lambda match: self._time(int(match[1]), int(match[2] or 0)),
            ),
            (_SUBTRACTION, lambda match: f" {words['minus']} "),
            (_RANGE, self._range),
            (_MINUS, lambda match: f"{words['minus']} "),
            (self._price, self._amount),
            (self._unit, lambda match: f"{match[1]} {self._form(words['units'][match[2]], match[1])}"),
            (self._ordinal, lambda match: self._ordinal_of(int(match[1]), match[2])),
            (_GERMAN_ORDINAL if self._language == "de" else None, self._german_ordinal),
        )
        for pattern, said in steps:
            if pattern is not None:
                text = pattern.sub(said, text)
        return text

    def _date(self, day: int, month: int, year: str) -> str:
        name = self._words["first_day"] if day == 1 and "first_day" in self._words else str(day)
        return str(self._words["date"].format(day=name, month=self._words["months"][month - 1], year=year))

    def _written_date(self, match: re.Match[str]) -> str:
        """Return a date such as 30/11/2026; which number is the month is up to the language, unless one can be none."""
        first, second = int(match[1]), int(match[3])
        day, month = (first, second) if (self._words["day_first"] and second <= 12) or first > 12 else (second, first)
        return self._date(day, month, match[4]) if 1 <= month <= 12 and 1 <= day <= 31 else match[0]

    def _time(self, hour: int, minute: int, half: str = "") -> str:
        """Return a time of the day; `half` is what follows it where the day has twice twelve hours, such as " p.m"."""
        if half and not minute:
            return f"{hour}{half}"
        name = (
            "hour" if not minute else "small_minutes" if minute < 10 and "small_minutes" in self._words else "minutes"
        )
        if hour == 1 and f"one_{name}" in self._words:
            name = f"one_{name}"
        return str(self._words[name].format(hour=hour, minute=minute)) + half

    def _version(self, match: re.Match[str]) -> str:
        prefix = match[1] or (f"{self._words['version']} " if match[2] else "")
        parts = match[3].split(".")
        is_address = len(parts) == 4 and all(int(part) < 256 for part in parts)
        if not prefix and not is_address and self._words["decimals"] == "," and _GROUPED.fullmatch(match[3]):
            return match[0]
        return prefix + match[3].replace(".", f" {self._words['dot' if is_address else 'point']} ")

    def _phone(self, match: re.Match[str]) -> str:
        """Return a phone number digit by digit, with a pause between its groups; French says pairs as numbers."""
        groups = re.findall(r"\d+", match[0])
        if sum(map(len, groups)) < _LEAST_PHONE_DIGITS:
            return match[0]
        pairs = self._language == "fr"
        said = ", ".join(
            group if pairs and len(group) == 2 and group[0] != "0" else " ".join(group) for group in groups
        )
        return f"{self._words['plus']} {said}" if match[0].startswith("+") else said

    def _range(self, match: re.Match[str]) -> str:
        first, dash, second = match.groups()
        if _value(first) < _value(second):
            return f"{first} {self._words['range']} {second}"
        return match[0] if dash.strip() != dash else f"{first} {second}"

    def _amount(self, match: re.Match[str]) -> str:
        sign, number, scale = (match[1], match[2], match[3]) if match[1] else (match[6], match[4], match[5])
        forms = self._words["currencies"][sign]
        if scale:
            return f"{number}{scale} {forms[1]}"
        whole, cents = (number[:-3], number[-2:]) if re.search(r"[.,]\d\d$", number) else (number, "00")
        unit = self._form(forms, whole)
        return f"{whole} {unit}" if cents == "00" else f"{whole} {unit} {cents}"

    def _form(self, forms: Sequence[str], number: str) -> str:
        return forms[0] if _value(number) == 1 or _value(number) < self._words["singular_below"] else forms[1]

    def _ordinal_of(self, number: int, ending: str) -> str:
        return self._in_words(number, is_feminine=ending in _FEMININE)

    def _german_ordinal(self, match: re.Match[str]) -> str:
        """Return "der neunundzwanzigste November", or "am neunundzwanzigsten November"."""
        said = self._in_words(int(match[2]))
        return f"{match[1]} {said}" if match[1] else f"{said}n"

    def _roman(self, match: re.Match[str]) -> str:
        number = 10 * len(match[1]) + _ROMAN_UNITS[match[2]]
        if re.search(
            rf"\b(?:{self._words['numbered']})\s$", match.string[max(0, match.start() - 20) : match.start()], re.I
        ):
            return str(number)
        return str(self._words["roman"].format(number=number, ordinal=self._in_words(number)))

    def _in_words(self, number: int, *, is_feminine: bool = False) -> str:
        """Return the ordinal, by the spell-out rules of Unicode's CLDR."""
        from unicode_rbnf import FormatPurpose

        spelled = _spell_out_rules(self._language).format_number(number, purpose=FormatPurpose.ORDINAL)
        gender = "spellout-ordinal-feminine" if is_feminine else "spellout-ordinal-masculine"
        return str(spelled.text_by_ruleset.get(gender, spelled.text))


@cache
def _spell_out_rules(language: str) -> "RbnfEngine":
    """Return the rules of a language, which take milliseconds to read: a sentence may have dozens of ordinals."""
    from unicode_rbnf import RbnfEngine

    return RbnfEngine.for_language(language)


def _value(number: str) -> float:
    """Return the value of a written number; a point or comma before three digits groups them."""
    digits = re.sub(r"[.,\s](?=\d{3}(?!\d))", "", number).replace(",", ".")
    return float(digits)
