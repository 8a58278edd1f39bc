"""Events as `wyoming`'s dataclasses, with fields of the declared types, which `wyoming` itself does not check."""

import logging
import types
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from wyoming.event import Event

from satellite.errors import ProtocolError, in_words, shown

T = TypeVar("T")

_LOGGED_FAULTS = 5

_WHOLE = ("rate", "width", "channels")
"""Whole numbers that JavaScript and Lua may write as 16000.0."""

_UNCHECKED = ("attribution", "version")
"""Fields that nothing here uses, and whose types are not checked."""


def parsed(read: Callable[[Event], T], event: Event) -> T:
    """Return `event` converted by `read`, a `from_event`. Raises `ProtocolError` for missing and mistyped fields.

    A whole number may be written as a float; a timestamp may be any number, and is ignored if it is none.
    """
    try:
        found = read(Event(event.type, _in_whole_numbers(event.data), event.payload))
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"{shown(event.type)}: {in_words(error)}") from error
    if (wrong := next(_misfits(found), None)) is not None:
        raise ProtocolError(f"{shown(event.type)}: {wrong} is of a wrong type")
    return found


def _in_whole_numbers(data: dict[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name in _WHOLE:
        if isinstance(value := data.get(name), float) and value.is_integer():
            changed[name] = int(value)
    timestamp = data.get("timestamp")
    if timestamp is not None and type(timestamp) is not int:
        is_number = isinstance(timestamp, float) and abs(timestamp) < float("inf")
        changed["timestamp"] = round(timestamp) if is_number else None
    return {**data, **changed} if changed else data


def _misfits(found: Any) -> Iterator[str]:
    """Yield the names of fields whose values are not of the declared types."""
    kind: Any = type(found)
    for name, hint in _declared(kind):
        if not _fits(getattr(found, name), hint):
            yield name


def _fits(value: object, hint: Any) -> bool:
    if hint is Any:
        return True
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if origin is list:
        if not isinstance(value, list):
            return False
        inner = get_args(hint)[0]
        # One value of each type is enough, since a client chooses how long the list is; dataclasses have fields.
        return all(
            _fits(one, inner) for one in (value if is_dataclass(inner) else {type(one): one for one in value}.values())
        )
    if isinstance(hint, type) and is_dataclass(hint):
        return isinstance(value, hint) and next(_misfits(value), None) is None
    if hint is int:
        return type(value) is int  # bool is an int, too
    return isinstance(value, origin or hint)


@cache
def _declared(kind: Any) -> tuple[tuple[str, Any], ...]:
    return tuple((name, hint) for name, hint in get_type_hints(kind).items() if name not in _UNCHECKED)


class Faults:
    """Counts the faults of one peer, of which only the first few are worth a line in the log."""

    def __init__(self) -> None:
        self._count = 0

    def level(self, usual: int) -> int:
        """Return the level at which to log the next one: `usual` or, after the first few, debug."""
        self._count += 1
        return usual if self._count <= _LOGGED_FAULTS else logging.DEBUG
