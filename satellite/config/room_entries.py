"""Adds a room to the text of a configuration and takes one out; every other character stays as it is.

A library that writes YAML would move comments: what stands between the last room and the next section belongs to the
section. So only lines of the entry itself are written, where the parser says that the list ends, and the result is
compared with what it should mean.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from satellite.errors import ConfigError

_COMMENTED_OUT = re.compile(r"^#[ \t]?rooms:.*\n?(?:#[ \t]+\S.*\n?)*", re.MULTILINE)
"""`#rooms:` as `satellite config --example` writes it, with entries that are commented out as well."""


def with_room(text: str, entry: Mapping[str, object]) -> str:
    """Return the configuration `text` with another room at the end of `rooms`.

    Raises `ConfigError`, with the lines to be written by hand, where that is not possible without changing more.
    """
    document = _document(text)
    wanted = {**document, "rooms": [*(document.get("rooms") or []), dict(entry)]}
    for edited in _additions(text, entry):
        if _means(edited, wanted):
            return edited
    raise ConfigError(
        "the configuration is written in a way that cannot be extended automatically; "
        f"add this by hand:\nrooms:\n{_lines(entry, '  ')}"
    )


def without_room(text: str, name: str) -> str:
    """Return the configuration `text` without the room called `name`, whatever its case.

    Raises `ConfigError` where there is none, or where it cannot be taken out without changing more.
    """
    document = _document(text)
    rooms = document.get("rooms") or []
    index = next((number for number, room in enumerate(rooms) if _is_called(room, name)), None)
    if index is None:
        raise ConfigError(f"no room of the configuration is called {name!r}")
    wanted = {**document, "rooms": rooms[:index] + rooms[index + 1 :]}
    edited = _removal(text, index)
    if edited is None or not _means(edited, wanted):
        raise ConfigError(
            f"the room {name!r} is written in a way that cannot be taken out automatically; delete it by hand"
        )
    return edited


def _is_called(room: object, name: str) -> bool:
    return isinstance(room, Mapping) and str(room.get("name")).strip().casefold() == name.strip().casefold()


def _document(text: str) -> dict[str, Any]:
    document = yaml.safe_load(text)
    return document if isinstance(document, dict) else {}


def _means(text: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return bool(yaml.safe_load(text) == wanted)
    except yaml.YAMLError:
        return False


def _additions(text: str, entry: Mapping[str, object]) -> Iterator[str]:
    """Yield texts that may be the extended one, the best first."""
    rooms = _rooms(text)
    if rooms is None:
        for match in _COMMENTED_OUT.finditer(text):
            yield _inserted(text, match.end(), f"rooms:\n{_lines(entry, '  ')}")
        gap = "" if not text.strip() else "\n"
        yield _inserted(text, len(text), f"{gap}rooms:\n{_lines(entry, '  ')}")
    elif isinstance(rooms, yaml.SequenceNode) and rooms.value and rooms.flow_style:
        at = _end(rooms.value[-1])
        yield f"{text[:at]}, {_inline(entry)}{text[at:]}"
    elif isinstance(rooms, yaml.SequenceNode) and rooms.value:
        yield _inserted(text, _line_end(text, _end(rooms.value[-1])), _lines(entry, " " * rooms.start_mark.column))
    else:  # nothing, null or an empty list
        before, after = text[: rooms.start_mark.index].rstrip(" "), text[rooms.end_mark.index :]
        yield _inserted(before + after, _line_end(before + after, len(before)), _lines(entry, "  "))
        yield f"{before} [{_inline(entry)}]{after}"


def _removal(text: str, index: int) -> str | None:
    rooms = _rooms(text)
    if not isinstance(rooms, yaml.SequenceNode):
        return None
    node = rooms.value[index]
    if len(rooms.value) == 1:
        last = text.rfind(":", 0, rooms.start_mark.index) + 1 if not rooms.flow_style else rooms.start_mark.index
        return f"{text[:last]}{'' if rooms.flow_style else ' '}[]{text[_end(rooms) :]}"
    if rooms.flow_style:
        if index:
            return text[: _end(rooms.value[index - 1])] + text[_end(node) :]
        return text[: node.start_mark.index] + text[rooms.value[1].start_mark.index :]
    start = text.rfind("\n", 0, node.start_mark.index) + 1
    return text[:start] + text[_line_end(text, _end(node)) :]


def _rooms(text: str) -> yaml.Node | None:
    """Return the node of `rooms`; None where there is no such key."""
    root = yaml.compose(text, yaml.SafeLoader)
    pairs: list[tuple[yaml.Node, yaml.Node]] = root.value if isinstance(root, yaml.MappingNode) else []
    return next((value for key, value in pairs if isinstance(key, yaml.ScalarNode) and key.value == "rooms"), None)


def _end(node: yaml.Node) -> int:
    """Return where the last character of a node ends: that of a block node itself is behind the comments after it."""
    if isinstance(node, yaml.MappingNode) and node.value and not node.flow_style:
        return _end(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and node.value and not node.flow_style:
        return _end(node.value[-1])
    end: int = node.end_mark.index
    return end


def _line_end(text: str, at: int) -> int:
    """Return where the line of `at` ends, its line break included; where a line begins, the one before it is meant."""
    if at and text[at - 1] == "\n":
        return at
    found = text.find("\n", at)
    return len(text) if found < 0 else found + 1


def _inserted(text: str, at: int, lines: str) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    gap = newline if at and text[at - 1] != "\n" else ""
    return text[:at] + gap + lines.replace("\n", newline) + text[at:]


def _lines(entry: Mapping[str, object], indent: str) -> str:
    written: str = yaml.safe_dump([dict(entry)], sort_keys=False, allow_unicode=True, width=10_000)
    return "".join(f"{indent}{line}\n" for line in written.splitlines())


def _inline(entry: Mapping[str, object]) -> str:
    written: str = yaml.safe_dump(
        dict(entry), sort_keys=False, allow_unicode=True, width=10_000, default_flow_style=True
    )
    return written.strip()
