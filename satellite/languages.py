"""Codes of spoken languages, as people write them and as Whisper uses them, and tables of texts by language."""

import importlib.resources
from collections.abc import Mapping
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

_OTHER_CODES = {"nb": "no", "iw": "he", "in": "id", "ji": "yi", "jv": "jw", "fil": "tl", "mo": "ro", "cmn": "zh"}
"""Other codes, such as Home Assistant's `nb`, with Whisper's codes."""


def family(language: str) -> str:
    """Return Whisper's code for a language such as `en-US`, `fr_FR` or `nb`."""
    code = language.strip().replace("_", "-").partition("-")[0].lower()
    return _OTHER_CODES.get(code, code)


def in_language(table: Mapping[str, T], language: str | None) -> T | None:
    """Return the entry for a language in a table by `family`, in which both written Norwegians are `no`."""
    code = family(language or "")
    return table.get("no" if code == "nn" else code)


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
