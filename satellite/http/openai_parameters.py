"""Parameters of OpenAI's API that are not supported: refused with a reason, never ignored silently."""

from collections.abc import Iterable, Mapping

from satellite.http.error_codes import HttpError

_WITHOUT_EFFECT = frozenset(
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
"""Parameters that concern OpenAI's accounting or speed, and do not change an answer."""

_DEFAULTS: Mapping[str, tuple[object, ...]] = {
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
"""Unsupported parameters, with the values that ask for no more than what is done anyway."""

_CALLS = {"tools": "tool_choice", "functions": "function_call"}
"""What a model may call, and the parameter that can forbid it."""


def refuse(parameters: Mapping[str, object] | None) -> None:
    """Raise `HttpError` for a parameter that is not supported and would have changed the answer."""
    parameters = parameters or {}
    for name, value in parameters.items():
        is_default = value is None or value in _DEFAULTS.get(name, ())
        forbidden = name in _CALLS and parameters.get(_CALLS[name]) == "none"
        if not (is_default or forbidden or name in _WITHOUT_EFFECT):
            raise unsupported(name)


def unsupported(name: str, supported: Iterable[str] = ()) -> HttpError:
    """Return the refusal of a parameter, or of a value that is not among those `supported`."""
    problem = f"{name}: expected {' or '.join(supported)}" if supported else f"{name} is not supported; leave it out"
    return HttpError(problem, code="unsupported_parameter", param=name)
