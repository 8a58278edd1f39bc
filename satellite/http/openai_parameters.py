"""Parameters of OpenAI's API that are not supported: refused with a reason, never ignored silently."""

from collections.abc import Iterable, Mapping
from typing import Any

from satellite.http.error_codes import HttpError
from satellite.languages import read_yaml

OPENAI: Mapping[str, Any] = read_yaml("satellite.http", "openai.yaml")

_CALLS = {"tools": "tool_choice", "functions": "function_call"}
"""What a model may call, and the parameter that can forbid it."""


def refuse(parameters: Mapping[str, object] | None) -> None:
    """Raise `HttpError` for a parameter that is not supported and would have changed the answer."""
    parameters = parameters or {}
    for name, value in parameters.items():
        is_default = value is None or value in OPENAI["defaults"].get(name, ())
        forbidden = name in _CALLS and parameters.get(_CALLS[name]) == "none"
        if not (is_default or forbidden or name in OPENAI["without_effect"]):
            raise unsupported(name)


def unsupported(name: str, supported: Iterable[str] = ()) -> HttpError:
    """Return the refusal of a parameter, or of a value that is not among those `supported`."""
    problem = f"{name}: expected {' or '.join(supported)}" if supported else f"{name} is not supported; leave it out"
    return HttpError(problem, code="unsupported_parameter", param=name)
