"""What a client of OpenAI's API asks for beyond what there is: refused in words, never passed over."""

from collections.abc import Iterable, Mapping
from typing import Any

from satellite.http.http_errors import HttpError

_CHANGES_NOTHING = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "user",
    }
)
"""Parameters that mean something to OpenAI's accounts, or to how fast they are, and nothing to an answer."""

_AS_IT_IS_ANYWAY: Mapping[str, tuple[Any, ...]] = {
    "chunking_strategy": ("auto",),
    "frequency_penalty": (0,),
    "function_call": ("auto", "none"),
    "functions": ([],),
    "include[]": ([],),
    "instructions": ("",),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "presence_penalty": (0,),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "stream_format": ("audio",),
    "tool_choice": ("auto", "none"),
    "tools": ([],),
    "top_logprobs": (0,),
}
"""Parameters that are not understood, with what one may ask for by them all the same."""

_CALLS = {"tools": "tool_choice", "functions": "function_call"}
"""What a model may call, and what says that it must not."""


def refuse(wishes: Mapping[str, Any] | None) -> None:
    """Raise `HttpError` for a parameter that is not understood and would have changed the answer."""
    wishes = wishes or {}
    for name, value in wishes.items():
        is_default = value is None or value in _AS_IT_IS_ANYWAY.get(name, ())
        forbidden = name in _CALLS and wishes.get(_CALLS[name]) == "none"
        if not (is_default or forbidden or name in _CHANGES_NOTHING):
            raise unsupported(name)


def unsupported(name: str, supported: Iterable[str] = ()) -> HttpError:
    """Return the refusal of a parameter, or of a value that is not among those `supported`."""
    told = f"{name}: expected {' or '.join(supported)}" if supported else f"{name} is not supported here; leave it out"
    return HttpError(told, code="unsupported_parameter", param=name)
