"""What Ollama reckons with: how long a model stays, what makes it load again, and what need not be read again."""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any

from tests.doubles.http import Refusal

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([^0-9.]*)")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_LONGEST_NANOSECONDS = 2**63 - 1
"""Go's longest duration, 292 years: what `for ever` is."""

_REMEMBERED_CONVERSATIONS = 32

_ABSENT: dict[str, Any] = {
    "num_batch": 512,
    "num_gpu": -1,
    "main_gpu": 0,
    "num_thread": 0,
    "use_mmap": None,
    "draft_num_predict": 0,
}
"""The options, beside num_ctx, of which a runner cannot change its mind, and what each is when it is not sent."""


def keep_alive_seconds(value: Any) -> float | None:
    """Return a request's keep_alive, infinite for what is negative; raises `ValueError` with Go's message."""
    if value is None:
        return None
    if isinstance(value, str):
        seconds = _duration_seconds(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise ValueError(f"Unsupported type: '{type(value).__name__}'")
    return math.inf if seconds < 0 else seconds


def _duration_seconds(text: str) -> float:
    """Read a duration as Go does: "1h30m", "-1m", "500ms"."""
    rest = text[1:] if text.startswith(("+", "-")) else text
    if rest == "0":
        return 0.0
    if not rest:
        raise ValueError(f'time: invalid duration "{text}"')
    seconds, position = 0.0, 0
    while position < len(rest):
        part = _PART.match(rest, position)
        if part is None:
            raise ValueError(f'time: invalid duration "{text}"')
        number, unit = part.groups()
        if not unit:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if unit not in _UNITS:
            raise ValueError(f'time: unknown unit "{unit}" in duration "{text}"')
        seconds += float(number) * _UNITS[unit]
        position = part.end()
    return -seconds if text.startswith("-") else seconds


def expiry_nanoseconds(now_nanoseconds: int, seconds: float) -> int:
    """Return when a model that stays for `seconds` expires."""
    return now_nanoseconds + int(min(seconds * 1e9, _LONGEST_NANOSECONDS))


def timestamp(nanoseconds: int) -> str:
    """Return a time since 1970 as Ollama writes it."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def tagged(name: str) -> str:
    """Return a model's name with its tag."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def integer(options: Mapping[str, Any], name: str, default: int) -> int:
    """Return an option that is a number; raises `Refusal`."""
    value = options.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refusal(500, f'option "{name}" must be of type integer')
    return int(value)


def runner_options(options: Mapping[str, Any], *, automatic_context: int, trained_context: int) -> dict[str, Any]:
    """Return what a runner must have been loaded with to serve a request with these options."""
    context = max(4, integer(options, "num_ctx", automatic_context))
    chosen = {name: value for name, value in options.items() if name in _ABSENT}
    return {"num_ctx": min(context, trained_context), **_ABSENT, **chosen}


def needs_reload(loaded: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Tell whether a runner with the options `loaded` cannot serve a request that wants others."""
    automatic = {"num_gpu": -1} if wanted["num_gpu"] < 0 else {}  # who leaves it to Ollama takes what there is
    return {**loaded, **automatic} != {**wanted, **automatic}


def tokens(text: str) -> list[str]:
    """Return the pieces that a conversation is measured in."""
    return _TOKEN.findall(text)


def prompt_tokens(messages: Sequence[Mapping[str, str]]) -> list[str]:
    """Return what is read before the first word of an answer."""
    prompt: list[str] = []
    for message in messages:
        prompt += ["<start>", message["role"], *tokens(message["content"]), "<end>"]
    return [*prompt, "<start>", "assistant"]


def fitted(messages: Sequence[dict[str, str]], context_tokens: int) -> list[dict[str, str]]:
    """Return what of a conversation fits: its oldest messages go first, what the system said and the last one stay."""
    kept = list(messages)
    while len(prompt_tokens(kept)) > context_tokens:
        oldest = next((i for i, message in enumerate(kept[:-1]) if message["role"] != "system"), None)
        if oldest is None:
            break
        del kept[oldest]
    return kept


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
