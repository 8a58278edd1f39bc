"""Codes of spoken languages, as people write them and as Whisper uses them, and tables of texts by language."""

import importlib.resources
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

WHISPER = tuple(
    (  # noqa: SIM905  # one word a line would be a hundred lines
        "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy "
        "id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru "
        "sa sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo zh"
    ).split()
)
"""The languages of Whisper's multilingual models; those of large-v3 add `yue`."""

_OTHER_CODES = {
    "nb": "no", "iw": "he", "in": "id", "ji": "yi", "jv": "jw", "fil": "tl", "mo": "ro", "cmn": "zh",
}  # fmt: skip
"""Other codes, such as Home Assistant's `nb`, with Whisper's codes."""

_NEAREST = {
    "nn": "no", "zh": "zh-cn", "zh-hans": "zh-cn", "zh-sg": "zh-cn", "zh-hant": "zh-tw", "zh-hant-hk": "zh-hk",
    "zh-mo": "zh-hk", "yue": "zh-hk",
}  # fmt: skip
"""What takes the place of a language that is not known, before its region is ignored: Chinese differs by script."""

_TAG = re.compile(r"[a-z]{2,3}(-[a-z]{4})?(-[a-z]{2}|-[0-9]{3})?(?![a-z0-9])")
"""A language with its script and region, after RFC 5646."""

_LONGEST = 35
"""Characters of a code that are looked at, as many as RFC 5646 recommends: a peer may have written it."""


def family(language: str) -> str:
    """Return Whisper's code for a language such as `en-US`, `fr_FR` or `nb`."""
    return _normalised(language).partition("-")[0]


def canonical(language: str) -> str:
    """Return a language with Whisper's code of it and its script and region, if any, such as `pt-BR` for `pt_br.UTF-8`.

    Swiss German is German: Whisper writes it so, and Home Assistant's sentences for it lack most commands.
    """
    tag = _TAG.match(_normalised(language))
    if tag is None or tag[0] == "de-ch":
        return family(language)
    code, *parts = tag[0].split("-")
    return "-".join([code, *(part.title() if len(part) == 4 else part.upper() for part in parts)])


def with_region(language: str, named: Iterable[str | None]) -> str:
    """Return a language that was heard as the first of `named` with a script or a region of it; else as it is."""
    codes = (canonical(code) for code in named if code)
    return next((code for code in codes if "-" in code and family(code) == family(language)), language)


def closest(language: str, known: Iterable[str]) -> str | None:
    """Return the code among `known` that is nearest to a language such as `nb-NO`, `fil`, `zh-Hant` or `fr_CA`.

    That is the same language and region, else the language without a region, else with any; None without one.
    """
    codes: dict[str, str] = {}
    for code in known:
        codes.setdefault(_normalised(code), code)
    wanted = list(_alternatives(_normalised(language)))
    for code in wanted:
        if code in codes:
            return codes[code]
    families = {code.partition("-")[0] for code in wanted}
    return next((code for normalised, code in codes.items() if normalised.partition("-")[0] in families), None)


def _normalised(language: str) -> str:
    """Return a code in lower case, with hyphens and Whisper's name of the language, such as `no-no` for `nb_NO`."""
    code, hyphen, region = language[:_LONGEST].strip().replace("_", "-").lower().partition("-")
    return _OTHER_CODES.get(code, code) + hyphen + region


def _alternatives(code: str) -> Iterator[str]:
    """Yield a normalised code and those that may take its place, nearest first."""
    while code:
        yield code
        if code in _NEAREST:
            yield _NEAREST[code]
        code = code.rpartition("-")[0]


def in_language(table: Mapping[str, T], language: str | None) -> T | None:
    """Return the entry for a language, or for the one that is `closest`."""
    code = closest(language, table) if language else None
    return None if code is None else table[code]


def read_yaml(package: str, name: str) -> dict[str, Any]:
    """Return the mapping in a YAML file of a package; empty if there is no such file."""
    import yaml  # most commands need no texts

    file = importlib.resources.files(package) / name
    # libyaml takes 5 ms, the parser in Python 50 ms, which the first answer would wait for.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return dict(yaml.load(file.read_text(encoding="utf-8"), Loader=loader)) if file.is_file() else {}  # safe loaders


@cache
def translations() -> Mapping[str, Mapping[str, str]]:
    """Return our own texts of every language by their names, and patterns of orders to the house."""
    return read_yaml("satellite", "translations.yaml")


def translated(name: str, language: str | None) -> str | None:
    """Return a text in a language such as `fr` or `fr_FR`; None where that language lacks it."""
    return (in_language(translations(), language) or {}).get(name)


def translated_or_english(name: str, language: str | None) -> str:
    """Return a text in a language such as `fr` or `fr_FR`; in English where that language lacks it."""
    return translated(name, language) or translations()["en"][name]
