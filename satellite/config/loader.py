"""Reading the configuration: YAML in, a `Config` out, or every mistake with its file, line and key."""

import os
import pwd
import re
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import ValidationError

from satellite.config.base import Settings
from satellite.config.consistency import Problems, Where, contradictions
from satellite.config.settings import Config, nearest
from satellite.errors import ConfigError, ConfigUnreadable, shown

SYSTEM_CONFIG = Path("/etc/satellite/config.yaml")
"""Read when `--config` is not given and the file exists."""

_FOUND_CHARACTERS = 60
"""Of a wrong value that are repeated in the message."""

_UNUSABLE = re.compile(r"[\0\ud800-\udfff]")
"""What no file name, no request and no log line can hold."""


def load(path: Path | None = None, *, check: Callable[[Config], Problems] = contradictions) -> Config:
    """Return the configuration of `path`, else of `SYSTEM_CONFIG`, else the embedded defaults.

    `check` yields the problems of settings that are each valid. Raises `ConfigError` with one line a problem:
    file:line: key: what was found, what was expected.
    """
    try:
        text = (path or SYSTEM_CONFIG).read_text(encoding="utf-8")
    except OSError as error:
        if path is None and isinstance(error, FileNotFoundError):
            return Config()
        reason = error.strerror or str(error)
        if isinstance(error, PermissionError) and os.geteuid() != 0:
            told = "sudo satellite doctor tells what to do" if "NOTIFY_SOCKET" in os.environ else "try it with sudo"
            reason += f" for this user ({_user()}); {told}"
        raise ConfigUnreadable(f"{path or SYSTEM_CONFIG}: cannot be read: {reason}") from error
    except ValueError as error:
        raise ConfigError(f"{path or SYSTEM_CONFIG}: cannot be read: {error}") from error
    return parse(text, name=str(path or SYSTEM_CONFIG), check=check)


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def parse(text: str, *, name: str = "config", check: Callable[[Config], Problems] = contradictions) -> Config:
    """Return the configuration written in the YAML `text`; `name` stands for the file in messages."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
        written = _Written({}, {}) if node is None else _written(node)
        duplicates = [] if node is None else list(_duplicates(node))
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}") from error
    if document is None:
        document = {}
    if not isinstance(document, Mapping):
        raise ConfigError(f"{name}:1: expected keys and values, found {type(document).__name__}")
    found = list(_problems(document, written, check))
    problems = [f"{name}:{line}: {key}: given twice" for line, key in duplicates]
    problems += [f"{name}:{_line_of(at, written.lines)}: {_dotted(at)}: {message}" for at, message in found]
    if problems:
        raise ConfigError("\n".join(problems))
    return Config.model_validate(document)


def _problems(document: Mapping[str, Any], written: "_Written", check: Callable[[Config], Problems]) -> Problems:
    """Yield what is wrong with single settings; with all of them together only once each is right."""
    unusable = [
        (where, "expected text without a NUL character or half of a surrogate pair")
        for where, raw in written.scalars.items()
        if _UNUSABLE.search(raw)
    ]
    if unusable:
        yield from unusable
        return
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        for detail in _root_causes(error):
            yield _describe(detail, document, written)
        return
    yield from _truth_values(config, document, written)
    yield from check(config)


def _truth_values(config: Config, document: Mapping[str, Any], written: "_Written") -> Iterator[tuple[Where, str]]:
    """Yield what YAML takes for true or false and a number or a text was made of: `yes` would be 1."""
    for where, raw in written.scalars.items():
        if isinstance(_at(where, document), bool) and not isinstance(_at(where, config), bool):
            yield where, f"expected neither true nor false, which {raw} is without quotes"


def _at(where: Where, here: Any) -> Any:
    """Return what stands there, None for nothing."""
    for step in where:
        if isinstance(here, Mapping):
            here = here.get(step)
        else:
            here = here[step] if isinstance(step, int) else getattr(here, step, None)
    return here


def _root_causes(error: ValidationError) -> list[Any]:
    """Return the problems without those that only follow from another one further down."""
    details = error.errors()
    places = [detail["loc"] for detail in details]
    return [
        detail
        for detail in details
        if not any(len(place) > len(detail["loc"]) and place[: len(detail["loc"])] == detail["loc"] for place in places)
    ]


def _describe(detail: Any, document: Mapping[str, Any], written: "_Written") -> tuple[Where, str]:
    """Return where a pydantic problem lies in the document, and what it is, for a person."""
    where = _without_tags(detail["loc"], document)
    if detail["type"] == "extra_forbidden":
        siblings = _keys_at(where[:-1], document)
        return where, f"unknown key; {nearest(str(where[-1]), siblings)}"
    found = "" if detail["type"] == "missing" else f", found {_shown(detail['input'])}"
    message = f"{_lower(detail['msg'].removeprefix('Value error, '))}{found}"
    if detail["type"] in ("string_type", "literal_error") and isinstance(detail["input"], bool | int | float):
        raw = written.scalars.get(where, str(detail["input"]))
        message += f'; quote what is to be text: "{raw}"'
    return where, message


def _shown(value: Any) -> str:
    text = re.sub(r"//[^/@\s]*@", "//…@", repr(value))  # no name and no password out of an address
    return shown(text, _FOUND_CHARACTERS)


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]


def _without_tags(loc: Where, document: Any) -> Where:
    """Drop the union tags that pydantic puts into a location, by walking the document beside it."""
    where: list[str | int] = []
    here = document
    for index, step in enumerate(loc):
        last = index == len(loc) - 1
        if isinstance(here, Mapping) and (step in here or last):
            here = here.get(step)
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
        else:
            continue
        where.append(step)
    return tuple(where)


def _keys_at(where: Where, document: Any) -> set[str]:
    """Return the valid keys of the section at `where`."""
    here, annotation = document, Config
    for step in where:
        here = here[step]
        annotation = _inside(annotation, step, here)
    return set(annotation.model_fields)


def _inside(annotation: Any, step: str | int, value: Any) -> Any:
    """Return the type of what lies at `step` of something of the type `annotation`; `value` decides between several."""
    if isinstance(annotation, type) and issubclass(annotation, Settings) and step in annotation.model_fields:
        inside = annotation.model_fields[str(step)].annotation
    else:  # a list, or a mapping of names
        inside = next(part for part in get_args(annotation) if part not in (str, type(None)))
    return _alternative(inside, value)


def _alternative(annotation: Any, value: Any) -> Any:
    """Return which part of a union `value` means to be: the one of its `type`, else the last section."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    parts = [_alternative(part, value) for part in get_args(annotation) if part is not type(None)]
    kind = value.get("type") if isinstance(value, Mapping) else None
    return next((part for part in parts if kind is not None and kind in _types(part)), parts[-1])


def _types(section: Any) -> tuple[Any, ...]:
    fields = getattr(section, "model_fields", {})
    return get_args(fields["type"].annotation) if "type" in fields else ()


def _dotted(where: Where) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where).lstrip(".") or "document"


def _line_of(where: Where, lines: Mapping[Where, int]) -> int:
    """Return the line of `where`, or of the nearest enclosing key that is written down."""
    for length in range(len(where), 0, -1):
        if where[:length] in lines:
            return lines[where[:length]]
    return 1


@dataclass(frozen=True, slots=True)
class _Written:
    """The document as it was written."""

    lines: dict[Where, int]
    """The line of every key and every element of a list, counted from 1."""

    scalars: dict[Where, str]
    """Every plain value, before YAML makes something else than text of it."""


def _written(node: yaml.Node) -> _Written:
    written = _Written({}, {})
    for where, line, value in _nodes(node):
        written.lines[where] = line
        if isinstance(value, yaml.ScalarNode):
            written.scalars[where] = value.value
    return written


def _nodes(node: yaml.Node, where: Where = ()) -> Iterator[tuple[Where, int, yaml.Node]]:
    """Yield every location in the document with its line and what stands there."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*where, key.value)
            yield here, key.start_mark.line + 1, value
            yield from _nodes(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*where, index), value.start_mark.line + 1, value
            yield from _nodes(value, (*where, index))


def _duplicates(node: yaml.Node) -> Iterator[tuple[int, str]]:
    """Yield line and name of keys that a mapping has twice; YAML silently keeps the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.start_mark.line + 1, key.value
            seen.add(key.value)
            yield from _duplicates(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _duplicates(value)
