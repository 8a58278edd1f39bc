"""What Ollama reckons with: how long a model stays, and what need not be read again."""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any

from tests.doubles.http import Refusal

_UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(-?)([0-9.]+)(|ms|s|m|h)")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_LONGEST_NANOSECONDS = 2**63 - 1
"""Go's longest duration, 292 years: what `for ever` is."""

_REMEMBERED_CONVERSATIONS = 32


def keep_alive_seconds(value: Any) -> float | None:
    """Return a request's keep_alive, infinite for what is negative; raises `ValueError`."""
    if value is None:
        return None
    if isinstance(value, str):
        duration = _DURATION.fullmatch(value)  # Go's, of one unit
        if duration is None:
            raise ValueError(f'time: invalid duration "{value}"')
        sign, number, unit = duration.groups()
        value = float(f"{sign}{number}") * _UNITS[unit]
    return math.inf if value < 0 else float(value)


def expiry_nanoseconds(now_nanoseconds: int, seconds: float) -> int:
    """Return when a model that stays for `seconds` expires."""
    return now_nanoseconds + int(min(seconds * 1e9, _LONGEST_NANOSECONDS))


def timestamp(nanoseconds: int) -> str:
    """Return a time since 1970 as Ollama writes it."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def tagged(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def integer(options: Mapping[str, Any], name: str, default: int) -> int:
    """Return an option that is a number; raises `Refusal`."""
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refusal(500, f'option "{name}" must be of type integer')
    return int(value)


def tokens(text: str) -> list[str]:
    """Return the pieces that a conversation is measured in."""
    return _TOKEN.findall(text)


def prompt_tokens(messages: Sequence[Mapping[str, str]]) -> list[str]:
    """Return what is read before the first word of an answer."""
    prompt: list[str] = []
    for message in messages:
        prompt += ["<start>", message["role"], *tokens(message["content"]), "<end>"]
    return [*prompt, "<start>", "assistant"]


class PrefixCache:
    """The conversations that a runner still knows; lost with it."""

    def __init__(self) -> None:
        self._known: list[list[str]] = []

    def cached(self, prompt: Sequence[str]) -> int:
        """Return how many tokens of `prompt` need not be read again; the last one always is."""
        longest = max((_common(prompt, known) for known in self._known), default=0)
        return min(longest, len(prompt) - 1)

    def remember(self, conversation: list[str]) -> None:
        """Keep a conversation with its answer, in the place of one that it continues."""
        self._known = [known for known in self._known if _common(conversation, known) < len(known)]
        self._known = [*self._known, conversation][-_REMEMBERED_CONVERSATIONS:]


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
