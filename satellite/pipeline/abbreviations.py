"""Abbreviations written out: voices spell most of them, and end a sentence at each full stop before a capital."""

import re
from collections.abc import Mapping
from functools import cache

from satellite.languages import read_yaml

_LETTER = r"[^\W\d_]"
_AROUND = {
    "anywhere": r"(?<![\w.@/-])(?:{})(?![\w/])",
    "capital": r"(?<![\w.@/-])(?:{})(?=\s[A-ZÀ-ÖØ-Þ])",
    "number": r"(?<![\w.@/-])(?<!\d\s)(?:{})(?=\s?\d)",
    "month": (
        r"(?<![\w.@/-])(?:{})(?=\s\d)|"
        r"(?:(?<=\d\s)|(?<=\d\.\s)|(?<=\der\s)|(?<=\d\sde\s)|(?<=\d(?:st|nd|rd|th)\sof\s))(?:{})(?!\w)"
    ),
    "century": r"(?<=[IVX]e\s)(?:{})(?!\w)",
    "name": r"(?<=[a-zà-ÿ]\s)(?:{})(?=[,;:)]|\s[a-z]|$)",
    "ending": rf"(?<={_LETTER}{{3}})(?:{{}})(?!\w)",
}
"""What stands before and after the abbreviations of each group; those of `name` follow one."""

_INITIALS = re.compile(r"(?<![\w.])(?:[A-ZÀ-ÖØ-Þ]\.\s?)++(?=\s?[A-ZÀ-ÖØ-Þ])")
_INNER_STOP = re.compile(
    r"""(?<=[^\W\d_])(?<!\.[^\W\d_])\.(?=\s+["'“‘«„(]?[A-ZÀ-ÖØ-Þ])"""
    r"|(?<!\.[^\W\d_])(?:(?<=\b[^\W\d_])|(?<=\b[^\W\d_]{2})|(?<=\b[^\W\d_]{3}))\.(?=\s+\d(?!\d?[.)]\s))"
)
"""A full stop that ends no sentence, since a capital follows it in the same one, or a number a short word; that of
"p.m." and the one before the number of an item stay."""


def without_abbreviations(text: str, language: str) -> str:
    """Return `text`, one sentence at most, with its abbreviations written out; `language` is one of the table's."""
    for pattern, words in _patterns(language):
        text = pattern.sub(lambda match, words=words: _said(match, words), text)  # type: ignore[misc]
    text = _INITIALS.sub(lambda match: " ".join(match[0].replace(".", " ").split()) + " ", text)
    return _INNER_STOP.sub("", text)


@cache
def _patterns(language: str) -> list[tuple[re.Pattern[str], Mapping[str, str]]]:
    patterns: list[tuple[re.Pattern[str], Mapping[str, str]]] = []
    for group, written in read_yaml("satellite.pipeline", "abbreviations.yaml")[language].items():
        words = {key.replace(" ", ""): said for key, said in written.items()}
        several = "|".join(_either_case(key) for key in sorted(written, key=len, reverse=True))
        patterns.append((re.compile(_AROUND[group].replace("{}", several)), words))
    return patterns


def _either_case(key: str) -> str:
    begin = f"[{key[0]}{key[0].upper()}]" if key[0].islower() else re.escape(key[0])
    return begin + re.escape(key[1:]).replace(r"\ ", r"\s?")


def _said(match: re.Match[str], words: Mapping[str, str]) -> str:
    written = "".join(match[0].split())
    said = words.get(written)
    if said is None:
        said = words[written[0].lower() + written[1:]]
        said = said[0].upper() + said[1:]
    if match.string[match.end() : match.end() + 1].isdigit():
        return f"{said} "
    is_end = written.endswith(".") and not match.string[match.end() :].strip("\"'”’»)] ")
    return f"{said}." if is_end else said
