"""Reads the configuration: a `Config` from YAML, or every mistake with its file, line and key."""

import os
import pwd
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from satellite.config.base import Settings
from satellite.config.consistency import Problems, Where, contradictions, dotted
from satellite.config.settings import Config, nearest
from satellite.errors import ConfigError, ConfigUnreadable, shown

SYSTEM_CONFIG = Path("/etc/satellite/config.yaml")
"""Read when `--config` is not given and the file exists."""

_FOUND_CHARACTERS = 60
"""Most characters of a wrong value that a message repeats."""

_UNUSABLE = re.compile(r"[\0\ud800-\udfff]")
"""Characters that no file name, request or log line can hold."""


def load(path: Path | None = None, *, check: Callable[[Config], Problems] = contradictions) -> Config:
    """Return the configuration of `path`, else of `SYSTEM_CONFIG`, else the embedded defaults.

    `check` yields the problems of settings that are each valid. Raises `ConfigError` with one line a problem:
    file:line: key: what was found, what was expected.
    """
    try:
        text = (path or SYSTEM_CONFIG).read_text(encoding="utf-8")
    except OSError as error:
        # The system's file need not exist; one that was named must.
        if path is None and isinstance(error, FileNotFoundError):
            return Config()
        reason = error.strerror or str(error)
        if isinstance(error, PermissionError) and os.geteuid() != 0:
            remedy = "see `sudo satellite doctor`" if "NOTIFY_SOCKET" in os.environ else "try it with sudo"
            reason += f" for this user ({_user()}); {remedy}"
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
    """Return the configuration written in the YAML `text`; `name` is the file in messages."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        # Before the document is made: that flattens merged keys (`<<`) into the nodes.
        written = _written(node)
        document = {} if node is None else loader.construct_document(node)
    # PyYAML lets these through: aliases to themselves, dates and numbers out of range.
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}") from error
    if document is None:  # a lone `null`
        document = {}
    if not isinstance(document, Mapping):
        raise ConfigError(f"{name}:1: expected keys and values, found {type(document).__name__}")
    found = list(_problems(document, written, check))
    problems = [f"{name}:{line}: {key}: given twice" for line, key in written.duplicates]
    problems += [
        f"{name}:{_line_of(at, written.lines)}: {dotted(at) or 'document'}: {message}" for at, message in found
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    return Config.model_validate(document)


def _problems(document: Mapping[str, object], written: "_Written", check: Callable[[Config], Problems]) -> Problems:
    """Yield the problems of single settings, or of all of them together once each is valid."""
    unusable = [
        (where, "expected text without a NUL character or half of a surrogate pair")
        for where, raw in written.scalars.items()
        if _UNUSABLE.search(raw)
    ]
    # Reported alone: other messages would repeat the characters.
    if unusable:
        yield from unusable
        return
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        for detail in _root_causes(error):
            yield _describe(detail, document, written)
        return
    # YAML 1.1 reads `no` and `on` as truth values, which pydantic converts to numbers.
    yield from _truth_values(config, document, written)
    yield from check(config)


def _truth_values(config: Config, document: Mapping[str, object], written: "_Written") -> Problems:
    """Yield what YAML takes for true or false where a number or text is expected: `yes` would become 1."""
    for where, raw in written.scalars.items():
        if isinstance(_at(where, document), bool) and not isinstance(_at(where, config), bool):
            yield where, f"expected neither true nor false, which {raw} is without quotes"


def _at(where: Where, here: Any) -> Any:
    """Return the value at `where` in a document or a section; None if there is none."""
    for step in where:
        if isinstance(here, Mapping):
            here = here.get(step)
        else:
            here = here[step] if isinstance(step, int) else getattr(here, step, None)
    return here


def _root_causes(error: ValidationError) -> list[ErrorDetails]:
    """Return the problems without those that only follow from another one deeper in the document."""
    details = error.errors()
    places = [detail["loc"] for detail in details]
    return [
        detail
        for detail in details
        if not any(len(place) > len(detail["loc"]) and place[: len(detail["loc"])] == detail["loc"] for place in places)
    ]


def _describe(detail: ErrorDetails, document: Mapping[str, object], written: "_Written") -> tuple[Where, str]:
    """Return the place of a pydantic problem in the document, and a message for people."""
    where = _without_tags(detail["loc"], document)
    if detail["type"] == "extra_forbidden":
        return where, f"unknown key; {nearest(str(where[-1]), _keys_at(detail['loc']))}"
    found = "" if detail["type"] == "missing" else f", found {_shown(detail['input'])}"
    message = detail["msg"].removeprefix("Value error, ")
    message = f"{message[:1].lower()}{message[1:]}{found}"
    # `language: no` is false to YAML, and a model called 3 a number.
    if detail["type"] in ("string_type", "literal_error") and isinstance(detail["input"], bool | int | float):
        raw = written.scalars.get(where, str(detail["input"]))
        message += f'; quote what is to be text: "{raw}"'
    return where, message


def _shown(value: object) -> str:
    text = re.sub(r"//[^/@\s]*@", "//…@", repr(value))  # without the user name and password of an address
    return shown(text, _FOUND_CHARACTERS)


def _without_tags(loc: Where, document: object) -> Where:
    """Return a location without the names of unions' parts, which pydantic puts in and the document lacks."""
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


def _keys_at(loc: Where) -> Collection[str]:
    """Return the valid keys of the section that holds the last step of a location, as pydantic gives it."""
    sections: Sequence[type[Settings]] = [Config]
    for step in loc[:-1]:
        fields = sections[0].model_fields
        if len(sections) > 1:  # a union: the location names the part that was chosen by its `type` or its scheme
            sections = [one for one in sections if step in _tags(one)] or sections
        elif step in fields:
            sections = list(_sections(fields[str(step)].annotation)) or sections
    return sections[0].model_fields.keys()


def _tags(section: type[Settings]) -> Collection[str]:
    """Return the names by which a union's part is chosen."""
    if "type" in section.model_fields:
        return get_args(section.model_fields["type"].annotation)
    return (getattr(section, "scheme", ""),)


def _sections(annotation: object) -> Iterator[type[Settings]]:
    """Yield the sections in a type such as `tuple[Section, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)


def _line_of(where: Where, lines: Mapping[Where, int]) -> int:
    """Return the line of `where`, or of the nearest enclosing key in the file."""
    for length in range(len(where), 0, -1):
        if where[:length] in lines:
            return lines[where[:length]]
    return 1


@dataclass(frozen=True, slots=True)
class _Written:
    """The document as it was written."""

    lines: dict[Where, int]
    """Line of every key and every element of a list, counted from 1."""

    scalars: dict[Where, str]
    """Text of every plain value, of which YAML may make a number or a truth value."""

    duplicates: list[tuple[int, str]]
    """Line and name of keys that a mapping has twice; YAML silently keeps the last."""


def _written(node: yaml.Node | None) -> _Written:
    written = _Written({}, {}, [])
    _walk(node, (), written)
    return written


def _walk(node: yaml.Node | None, where: Where, written: _Written) -> None:
    if isinstance(node, yaml.ScalarNode):
        written.scalars[where] = node.value
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            written.lines[*where, index] = value.start_mark.line + 1
            _walk(value, (*where, index), written)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        # Keys that are lists or mappings are left to the constructor, which refuses them.
        for key, value in ((key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in seen:
                written.duplicates.append((line, key.value))
            seen.add(key.value)
            written.lines[*where, key.value] = line
            _walk(value, (*where, key.value), written)
