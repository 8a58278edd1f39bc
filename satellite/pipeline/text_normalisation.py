"""Text normalisation: numbers with signs and units, times, dates, addresses and capitals written out for a voice.

Voices read plain numbers by themselves, but say a minus sign, a unit or a range in some languages only, or in English.
The words of each language are in `spoken_forms.yaml`; in a language without them, text stays as it is.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from satellite.languages import closest, in_language, read_yaml
from satellite.pipeline.abbreviations import without_abbreviations
from satellite.pipeline.counted_nouns import CountedNouns
from satellite.pipeline.fractions import Fractions
from satellite.pipeline.roman_numerals import RomanNumerals, with_german_ordinals

if TYPE_CHECKING:
    from unicode_rbnf import RbnfEngine

# All repetitions are of characters that no other part of the same pattern takes, or bounded: the time is linear.
_NUMBER = r"\d{1,15}(?:[.,\u00a0\u202f ]\d{3}(?!\d))*(?:[.,]\d{1,9}(?!\d))?"
_EMAIL = re.compile(r"(?<![\w.+-])([\w.+-]{1,64})@([\w-]{1,63}(?:\.[\w-]{1,63})+)")
_INNER_DOT = re.compile(r"(?<=[^\W\d_]{2})\.(?=[^\W\d_]{2})")
"""A point within a name, such as that of a file or a host; "e.g." and "z.B." have single letters."""

_ISO_DATE = re.compile(r"\b(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])\b")
_DATE = re.compile(r"\b(\d{1,2})([./-])(\d{1,2})\2(\d{4})\b")
_TIME = (
    r"(?<![\d:])([01]?\d|2[0-3]):([0-5]\d)(?![\d:]|\s(?:Std|Stunden|[Mm]in|hours?|heures)\b)"
    r"(\s?(?:[ap]\.?m|[AP]M)\b)?"
)
_FRENCH_TIME = re.compile(r"\b([01]?\d|2[0-3])\s?[hH](?:\s?([0-5]\d))?(?!\w)")
_OUT_OF = re.compile(r"(?<![\w/])(24|7)\s?([hj])?\s?/\s?(24|7)(?![\w/])(?:\s?[hj](?!\w))?")
"""French for around the clock: "24h/24 et 7j/7"."""

_TIME_RANGE = re.compile(
    r"(?<![\w.,:-])(\d{1,2}(?:[:hH]\d\d|\s?[hH])?(?:\s?(?:[ap]\.?m\.?|AM|PM))?)\s?[-–]\s?"
    r"(?=\d{1,2}(?::\d\d(?![\d:])|\s?[hH](?:\d\d)?(?!\w)|\s?(?:[ap]\.?m|AM|PM)\b))"
)
_VERSION = re.compile(r"\b(versi\w+\s)?(v?)(\d+(?:\.\d+){2,8}|(?<=v)\d+(?:\.\d+)?)\b", re.IGNORECASE)
_GROUPED = re.compile(r"\d{1,3}(?:\.\d{3})+")
_PHONE = re.compile(
    r"(?<![\w.,-])(?<!\d\s)(?:(?:\+\d|0\d|\(0\d)[\d ()/.-]{4,17}\d|(?:\(\d{3}\)\s?|\d{3}-)?\d{3}-\d{4})(?![\w-])"
)
_LONG_NUMBER = re.compile(
    r"\b[A-Z]{2}\d\d(?: ?[A-Z\d]{4}){2,7}(?: ?[A-Z\d]{1,4})?\b|(?<![\w-])\d{1,5}(?:-\d{1,7}){3,6}(?![\w-])"
)
"""Of an account (IBAN), a book, or a phone with hyphens: read digit by digit."""

_LEAST_PHONE_DIGITS = 7
"""02/2024 is a month."""

_DASHES = str.maketrans({"‐": "-", "‑": "-", "﹣": "-", "－": "-", "➖": "−"})
_SUBTRACTION = re.compile(rf"(?<=\d)\s?(?:−\s?(?=\d)|[-–]\s?(?={_NUMBER}\s?=))")
_MINUS = re.compile(r"(?<![\w)\]%°€$£–-])[-−–](?=\d)")
_DIVISION = re.compile(rf"(?<=\d)(?: / (?=\d)|\s?: (?={_NUMBER}\s=))")
_PRODUCT = re.compile(r"(?<=\d)\s?·\s?(?=\d)|(?<=\d)\sx\s(?=\d)|(?<=\d)(?<!\b0)x(?=\d|\W|$)")
_TWO_SCALES = re.compile(r"(?:(?<=°[CF])|(?<=°))\s?/\s?(?=[-−+\d])")
_SCORE = re.compile(r"(?<![\d:])(\d{1,2}):(\d)(?![\d:])")
_FEET_AND_INCHES = re.compile(r"""(?<![\w.,'"])(\d{1,2})['’′]\s?(\d{1,2})(?:["”″]|['’]{2})""")
_HIGHEST_FEET = 8
_INCHES_OF_A_FOOT = 12
_FEET = re.compile(r"(?<![\w.,'\"‘])(\d{1,3})(?:′|['’](?=\s(?:[x×]\s?\d|[a-z])))")
_INCHES = re.compile(
    r"""(^[^"”]{0,240}?(?<![\w.,'"])\d{1,3}(?:[.,]\d{1,2})?)\s?["”](?=\s[^\W\d_]|\s?[x×]\s?\d|-\w)|″"""
)
"""A straight mark with no other before it closes no quotation."""

_CURRENCY_CODE = re.compile(r"(?<!\w)(?:EUR|USD|GBP)\s?(?=\d)|(?<=\d)\s?(?:EUR|USD|GBP)(?!\w)")
_CURRENCIES = {"EUR": "€", "USD": "$", "GBP": "£"}
_POWER = re.compile(r"(?<=[\w)])(?:([²³])|\^(?=[-\w(]))")
_DECADE = re.compile(r"(?<![\w.,])(?:([Tt]he |[Ee]arly |[Mm]id-|[Ll]ate )?['’]?(1\d|20)?)([2-9]0)['’]?s\b")
_DECADES = "twenties thirties forties fifties sixties seventies eighties nineties"
_RANGE = re.compile(rf"(?<![\w.,-])({_NUMBER})(\s?[-–]\s?)({_NUMBER})(?![\w-])")
_LETTER_WORD = re.compile(r"[^\W\d_]{2,}")
_SPELLED = re.compile(
    r"(?<![\w-])(?:AI|API|BBC|BMW|CD|CPU|DNA|DNS|DVD|EU|FM|GPS|GPU|HD|HDMI|HTML|HTTPS?|IBM|IP|LCD|LED|MQTT|NFC|PC|PDF|"
    r"SMS|SSD|TV|UK|UN|URL|USA|USB|UV|VPN|VW|XML)(?!\w)"
)
"""Abbreviations that voices read as words in some languages. Which capitals are spelled, no rule tells."""

_CAPITALS = re.compile(r"(?<![\w-])(?![IVXLCM]+\b)[A-ZÀ-ÖØ-Þ]{5,}(?![\w-])")
_MINUS_ELSEWHERE = {
    "bg": "минус", "ca": "menys", "cs": "minus", "da": "minus", "el": "μείον", "et": "miinus", "fi": "miinus",
    "hr": "minus", "hu": "mínusz", "lt": "minus", "lv": "mīnus", "no": "minus", "pl": "minus", "ro": "minus",
    "ru": "минус", "sk": "mínus", "sl": "minus", "sv": "minus", "tr": "eksi", "uk": "мінус",
}  # fmt: skip
"""What many voices leave out, in languages of which nothing else is known here."""

_SPACE_BEFORE_MARK = re.compile(r" (?=[,.;!?](?!\w))")
_FEMININE = ("ª", ".ª", "re", "ère")
_GERMAN_ORDINAL = re.compile(
    r"(?:\b((?:(?:an|aus|bei|in|mit|nach|seit|unter|von|vor|zu)\s)?d(?:er|ie|as))\s|(?<=[\w,]\s))"
    r"(?<![\d.,])(\d{1,2})\.(?=\s[A-ZÄÖÜ]|,|\s(?:und|oder|bis)\s\d{1,2}\.)",
    re.IGNORECASE,
)
_DEGREE = re.compile(r"º(?=[CF]\b)")
_GERMAN_DAYS = re.compile(r"(?<=\d\.)\s?[-–]\s?(?=\d{1,2}\.(?:\s[A-ZÄÖÜ]|\d))")


def written_out(text: str, language: str | None) -> str:
    """Return `text`, a sentence or a part of one, as a voice of `language` is to read it."""
    if (code := closest(language, _words()) if language else None) is not None:
        return _forms(code).applied(text)
    minus = in_language(_MINUS_ELSEWHERE, language)
    return _MINUS.sub(f"{minus} ", text.translate(_DASHES)) if minus else text


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
        short = "|".join(sorted(words["short_scales"], key=len, reverse=True))
        scale = rf"(?:\s(?:{words['scales']})(?!\w)|\s?(?:{short})(?!\w))?"
        per = r"(?:\s?/\s?([^\W\d_]{1,12}))?"
        self._signs: Mapping[str, str] = {**words["signs"], "−": words["minus"]}
        self._fractions = Fractions(language, words, self._cardinal)
        self._counted = CountedNouns(language, words, self._cardinals)
        self._roman = RomanNumerals(language, words, self._in_words)
        signs = "".join(re.escape(sign) for sign in self._signs)
        fractions = "|".join([*words["fractions"].values(), words["and_a_half"]])
        self._unit = re.compile(
            rf"(?<![\w.,{currencies}])({_NUMBER}|{fractions})\s?({units}){per}(?![\w²³°])(?:\.(?=\s[a-zà-ÿ\d](?!\d?[.)]\s)|[,;:)]))?"
        )
        self._price = re.compile(
            rf"(?:(?<!\w)(US|CA|AU|NZ|HK|[AC]))?([{currencies}])\s?({_NUMBER})({scale})(?:,[-–])?{per}(?!\w|[.,]\d)"
            rf"|(?<![\w.,])({_NUMBER})(?:,[-–])?({scale})\s?([{currencies}])(?:(\d\d)(?!\d)|{per})"
        )
        quantity = rf"{_NUMBER}(?:\s?(?:%|{units}|[{currencies}])(?!\w))"
        self._quantities = re.compile(
            rf"(?<![\w.,])([-−–](?:[{currencies}]\s?)?{_NUMBER}|[{currencies}]\s?{_NUMBER}|[-−–]?{quantity})"
            rf"\s?[-–]\s?(?=[-−]?[{currencies}]?\d)"
        )
        self._clock = re.compile(rf"{_TIME}(?:\s(?:{words['clock']})(?!\w))?")
        self._dotted_clock = re.compile(words["dotted_clock"]) if "dotted_clock" in words else None
        months = "|".join(words["months"])
        self._first_day = (
            re.compile(rf"(?<![\w.,:/–-])(?<!\d\s)1(?=\s(?:(?:au|et|al|e)\s\d{{1,2}}\s)?(?:{months})(?!\w))")
            if "first_day" in words
            else None
        )
        written_day = r"(\d{1,2})\.(\d{1,2})\.(?!\d)" if language == "de" else r"(\d{1,2})/(\d{1,2})(?![\w/%])"
        self._day = re.compile(rf"(?<!\w)({words['day_after']})\s{written_day}", re.IGNORECASE)
        self._sign = re.compile(rf"\s?([{signs}])(?:(?!\+)\1)*\s?(?=[\w(√+-])")
        self._degree_ordinal = (
            re.compile(rf"(?<!\w)((?:{words['article']})\s)(\d{{1,3}})°(?!\w|\s?[CF]\b)", re.IGNORECASE)
            if "article" in words
            else None
        )
        self._ordinal = re.compile(rf"\b(\d{{1,4}})({words['ordinals']})(?!\w)") if "ordinals" in words else None

    def applied(self, text: str) -> str:
        """Return `text` written out."""
        text = _DEGREE.sub("°", _LONG_NUMBER.sub(_spelled_groups, text.translate(_DASHES)))
        if self._language == "de":
            text = with_german_ordinals(text)
        text = _lower_if_all_capitals(text)
        text = without_abbreviations(text, self._language)
        dot = f" {self._words['dot']} "
        text = _EMAIL.sub(lambda match: f"{match[1]} {self._words['at']} {match[2]}".replace(".", dot), text)
        text = _INNER_DOT.sub(dot, text)
        if any(character.isnumeric() for character in text):
            text = self._numbers(text)
        text = _POWER.sub(lambda match: f" {self._words['powers'][match[1] or '^']} ", text)
        text = self._sign.sub(lambda match: f" {self._signs[match[1]]} ", text)
        text = self._roman.written_out(text)
        text = _SPELLED.sub(lambda match: " ".join(match[0]), text)
        text = _CAPITALS.sub(lambda match: match[0].lower(), text)
        return _SPACE_BEFORE_MARK.sub("", " ".join(text.split()))

    def _numbers(self, text: str) -> str:
        words = self._words
        # In this order: what looks like two things, such as a date and a range, is the first of them.
        steps: Sequence[tuple[re.Pattern[str] | None, Callable[[re.Match[str]], str]]] = (
            (_CURRENCY_CODE, lambda match: _CURRENCIES[match[0].strip()]),
            (_FEET_AND_INCHES, self._feet),
            (_FEET if self._language == "en" else None, lambda match: f"{match[1]} foot"),
            (_INCHES, lambda match: f"{match[1] or ''} {words['inches']}"),
            (_ISO_DATE, lambda match: self._date(int(match[3]), int(match[2]), match[1])),
            (_DATE, self._written_date),
            (_GERMAN_DAYS if self._language == "de" else None, lambda match: f" {words['range']} "),
            (self._day, self._day_of_month),
            (_OUT_OF if self._language == "fr" else None, _out_of),
            (self._fractions.pattern, self._fractions.said),
            (_PHONE, self._phone),
            (_VERSION, self._version),
            (_TIME_RANGE, lambda match: f"{match[1]} {words['range']} "),
            (self._clock, lambda match: self._time(int(match[1]), int(match[2]), match[3] or "")),
            (self._dotted_clock, lambda match: self._time(int(match[1]), int(match[2]))),
            (
                _FRENCH_TIME if self._language == "fr" else None,
                lambda match: self._time(int(match[1]), int(match[2] or 0)),
            ),
            (_SCORE, lambda match: f"{match[1]} {words.get('score', '')} {match[2]}"),
            (_DECADE if self._language == "en" else None, _decade),
            (self._degree_ordinal, lambda match: f"{match[1]}{self._in_words(int(match[2]))}"),
            (_SUBTRACTION, lambda match: " − "),  # the sign, since a word such as Dutch "min" is a unit as well
            (_DIVISION, lambda match: " ÷ "),
            (_PRODUCT, lambda match: f" {words['signs']['×']} "),
            (_TWO_SCALES, lambda match: ", "),
            (self._quantities, self._range_of_quantities),
            (_RANGE, self._range),
            (_MINUS, lambda match: f"{words['minus']} "),
            (self._price, self._amount),
            (self._unit, self._quantity),
            (self._ordinal, lambda match: self._ordinal_of(int(match[1]), match[2])),
            (_GERMAN_ORDINAL if self._language == "de" else None, self._german_ordinal),
            (self._first_day, lambda match: str(words["first_day"])),
            (self._counted.pattern, self._counted.said),
        )
        for pattern, said in steps:
            if pattern is not None:
                text = pattern.sub(said, text)
        return text

    def _feet(self, match: re.Match[str]) -> str:
        """Return a height such as 5'10", or minutes and seconds where it can be none."""
        is_height = int(match[1]) <= _HIGHEST_FEET and int(match[2]) < _INCHES_OF_A_FOOT
        return f"{match[1]} {self._words['feet'] if is_height else self._words['units']['min'][1]} {match[2]}"

    def _date(self, day: int, month: int, year: str) -> str:
        name = self._words["first_day"] if day == 1 and "first_day" in self._words else str(day)
        return str(self._words["date"].format(day=name, month=self._words["months"][month - 1], year=year))

    def _written_date(self, match: re.Match[str]) -> str:
        """Return a date such as 30/11/2026; which number is the month is up to the language, unless one can be none."""
        first, second = int(match[1]), int(match[3])
        is_day_first = first > 12 or (second <= 12 and (self._words["day_first"] or match[2] == "."))
        day, month = (first, second) if is_day_first else (second, first)
        return self._date(day, month, match[4]) if 1 <= month <= 12 and 1 <= day <= 31 else match[0]

    def _day_of_month(self, match: re.Match[str]) -> str:
        """Return a date without a year, such as "am 5.12." or "le 14/07"."""
        first, second = int(match[2]), int(match[3])
        day, month = (first, second) if self._words["day_first"] else (second, first)
        if not (1 <= month <= 12 and 1 <= day <= 31):
            return match[0]
        return f"{match[1]} {self._date(day, month, '').strip(' ,').removesuffix(' de')}"

    def _time(self, hour: int, minute: int, half: str = "") -> str:
        """Return a time of the day; `half` is what follows it where the day has twice twelve hours, such as " p.m"."""
        if half and not minute:
            return f"{hour}{half}"
        name = (
            "hour" if not minute else "small_minutes" if minute < 10 and "small_minutes" in self._words else "minutes"
        )
        if (hour == 1 or hour < self._words["singular_below"]) and f"one_{name}" in self._words:
            name = f"one_{name}"
        said = {part: self._counted.on_clock(part, number) for part, number in (("hour", hour), ("minute", minute))}
        return str(self._words[name].format(**said)) + half

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

    def _range_of_quantities(self, match: re.Match[str]) -> str:
        """Return the beginning of a range with units; of "$5-10" both are dollars."""
        first, currencies = match[1], self._words["currencies"]
        if first[0] not in currencies:
            return f"{first} {self._words['range']} "
        following = match.string[match.end()]
        if following in currencies:
            return f"{first.lstrip(following).lstrip()} {self._words['range']} "
        return f"{first[1:].lstrip()} {self._words['range']} {first[0]}"

    def _range(self, match: re.Match[str]) -> str:
        first, dash, second = match.groups()
        if _value(first) < _value(second):
            return f"{first} {self._words['range']} {second}"
        return match[0] if dash.strip() != dash else f"{first} {second}"

    def _amount(self, match: re.Match[str]) -> str:
        country, sign, number, scale, per = match.group(1, 2, 3, 4, 5)
        cents = None
        if not sign:
            number, scale, sign, cents, per = match.group(6, 7, 8, 9, 10)
        forms = [
            f"{country} {form}" if country and self._language == "en" else form
            for form in self._words["currencies"][sign]
        ]
        per = self._per(per)
        if scale:
            word = scale.strip()
            word = self._words["short_scales"].get(word, word)
            of = self._words.get("of_scale", "") if word not in ("mil", "mila", "mille") else ""
            of = "d'" if of and forms[1] == "euros" and self._language == "fr" else of
            return f"{number} {word} {of}{forms[1]}{per}"
        if cents is None and re.search(r"[.,]\d\d$", number):
            number, cents = number[:-3], number[-2:]
        if number == "0" and cents:
            return f"{int(cents)} {self._form(self._words['cents'][sign], cents)}{per}"
        unit = self._form(forms, number)
        return f"{number} {unit}{per}" if cents in (None, "00") else f"{number} {unit} {cents}{per}"

    def _quantity(self, match: re.Match[str]) -> str:
        return f"{match[1]} {self._form(self._words['units'][match[2]], match[1])}{self._per(match[3])}"

    def _per(self, unit: str | None) -> str:
        if not unit:
            return ""
        return f" {self._words['per']} {self._words['units'].get(unit, [unit])[0]}"

    def _form(self, forms: Sequence[str], number: str) -> str:
        if not number[0].isdigit():
            return forms[bool(number == self._words["and_a_half"])]
        return forms[0] if _value(number) == 1 or _value(number) < self._words["singular_below"] else forms[1]

    def _ordinal_of(self, number: int, ending: str) -> str:
        said = self._in_words(number, is_feminine=ending in _FEMININE)
        return said.removesuffix("o") if ending in ("er", ".er") else said  # Spanish "primer" before a noun

    def _german_ordinal(self, match: re.Match[str]) -> str:
        """Return "der neunundzwanzigste November", or "am neunundzwanzigsten November"."""
        said = self._in_words(int(match[2]))
        dative = "n" if not match[1] or " " in match[1] else ""
        return f"{match[1]} {said}{dative}".lstrip() if match[1] else f"{said}n"

    def _cardinal(self, number: int) -> str:
        return _spell_out_rules(self._language).format_number(number).text.replace("\u00ad", "")

    def _cardinals(self, number: int) -> Mapping[str, str]:
        return _spell_out_rules(self._language).format_number(number).text_by_ruleset

    def _in_words(self, number: int, *, is_feminine: bool = False) -> str:
        """Return the ordinal, by the spell-out rules of Unicode's CLDR."""
        from unicode_rbnf import FormatPurpose

        spelled = _spell_out_rules(self._language).format_number(number, purpose=FormatPurpose.ORDINAL)
        gender = "spellout-ordinal-feminine" if is_feminine else "spellout-ordinal-masculine"
        return str(spelled.text_by_ruleset.get(gender, spelled.text))


def _lower_if_all_capitals(text: str) -> str:
    """Return text that is shouted in small letters: voices spell some of its words."""
    words = [word for word in _LETTER_WORD.findall(text) if not _SPELLED.fullmatch(word) and word.strip("IVX")]
    if not text.isupper() or len(words) < 2 or max(len(words), *map(len, words)) < 4:
        return text
    text = _LETTER_WORD.sub(lambda match: match[0] if _SPELLED.fullmatch(match[0]) else match[0].lower(), text)
    return text[0].upper() + text[1:]


def _spelled_groups(match: re.Match[str]) -> str:
    return ", ".join(" ".join(group) for group in re.findall(r"\w+", match[0]))


def _out_of(match: re.Match[str]) -> str:
    of = {"h": " heures", "j": " jours", None: ""}[match[2]]
    return f"{match[1]}{of} sur {match[3]}"


def _decade(match: re.Match[str]) -> str:
    """Return "the nineties" for "the 90s", and seconds for others."""
    century = match[2] or ""
    if not match[1] and not century and match[0][0] not in "'’":
        return f"{match[3]} seconds"
    return f"{match[1] or ''}{century} {_DECADES.split()[int(match[3][0]) - 2]}".lstrip()


@cache
def _spell_out_rules(language: str) -> "RbnfEngine":
    """Return the rules of a language, which take milliseconds to read: a sentence may have dozens of ordinals."""
    from unicode_rbnf import RbnfEngine

    return RbnfEngine.for_language(language)


def _value(number: str) -> float:
    """Return the value of a written number; a point or comma before three digits groups them."""
    digits = re.sub(r"[.,\s](?=\d{3}(?!\d))", "", number).replace(",", ".")
    return float(digits)
