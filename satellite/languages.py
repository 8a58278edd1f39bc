"""Codes of spoken languages, as people write them and as Whisper uses them."""

from collections.abc import Mapping
from typing import TypeVar

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
