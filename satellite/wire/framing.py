"""Wyoming's framing, bounded: bytes in, events out, and back.

One event is a JSON line `{"type", "data"?, "data_length"?, "payload_length"?}`, then `data_length` bytes of JSON
that are merged over `data`, then `payload_length` raw bytes (wyoming 1.10 README). The parser does no I/O, so that
it can be fuzzed, and never holds more than the limits allow.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from wyoming.event import Event

from satellite.errors import ProtocolError

_VERSION = "1.10.2"
"""Version of the protocol that we write, as `wyoming` does."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one event."""

    header_bytes: int = 64 * 1024
    data_bytes: int = 1024 * 1024
    payload_bytes: int = 4 * 1024 * 1024
    nesting: int = 64
    """Depth of objects and arrays: code that writes, compares or prints them may recurse."""

    parts: int = 32 * 1024
    """Number of objects and arrays: creating more of them takes long."""


class EventParser:
    """Turns bytes, fed as they arrive, into events. After a `ProtocolError` it cannot be used any more."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._searched = 0
        self._header: dict[str, Any] | None = None
        self._data_length = 0
        self._payload_length = 0
        self.event_bytes = 0
        """Size on the wire of the last event."""

    @property
    def mid_event(self) -> bool:
        """Whether an event has begun and is not complete."""
        return self._header is not None or bool(self._buffer)

    @property
    def owed_bytes(self) -> int:
        """Bytes of data and payload that the current header announced."""
        return self._data_length + self._payload_length if self._header is not None else 0

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the events that `data` completes; raises `ProtocolError` at the first byte that is not Wyoming."""
        self._buffer += data
        while True:
            if self._header is None and not self._read_header():
                return
            if len(self._buffer) < self.owed_bytes:
                return
            yield self._read_body()

    def _read_header(self) -> bool:
        end = self._buffer.find(b"\n", self._searched)
        length = len(self._buffer) if end < 0 else end
        if length > self._limits.header_bytes:
            raise ProtocolError(f"header line is longer than {self._limits.header_bytes} bytes")
        if end < 0:
            self._searched = length
            return False
        header = self._json_object(self._buffer[:end], "header")
        del self._buffer[: end + 1]
        self._searched = 0
        self.event_bytes = end + 1
        if not isinstance(header.get("type"), str):
            raise ProtocolError("header has no type")
        self._data_length = _length(header, "data_length", self._limits.data_bytes)
        self._payload_length = _length(header, "payload_length", self._limits.payload_bytes)
        self._header = header
        return True

    def _read_body(self) -> Event:
        assert self._header is not None
        data = self._header.get("data") or {}
        if not isinstance(data, dict):
            raise ProtocolError("data is not an object")
        if self._data_length:
            data = {**data, **self._json_object(self._buffer[: self._data_length], "data")}
        payload = bytes(self._buffer[self._data_length : self.owed_bytes]) or None
        event = Event(type=self._header["type"], data=data, payload=payload)
        del self._buffer[: self.owed_bytes]
        self.event_bytes += self.owed_bytes
        self._header = None
        return event

    def _json_object(self, text: bytearray, what: str) -> dict[str, Any]:
        parts = text.count(b"{") + text.count(b"[")
        if parts > self._limits.parts:
            raise ProtocolError(f"{what} has more than {self._limits.parts} objects and arrays")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"{what} is not JSON") from error
        if not isinstance(value, dict):
            raise ProtocolError(f"{what} is not an object")
        if parts > self._limits.nesting and _is_nested(value, self._limits.nesting):
            raise ProtocolError(f"{what} is nested more than {self._limits.nesting} deep")
        return value


def encode(event: Event) -> bytes:
    """Return `event` in the form in which `wyoming` writes it."""
    header: dict[str, Any] = {"type": event.type, "version": _VERSION}
    data = _dump(event.data) if event.data else b""
    payload = event.payload or b""
    if data:
        header["data_length"] = len(data)
    if payload:
        header["payload_length"] = len(payload)
    return _dump(header) + b"\n" + data + payload


def _dump(value: dict[str, Any]) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can carry only as an escape
        return json.dumps(value).encode()


def _is_nested(value: object, most: int) -> bool:
    """Return whether the objects and arrays in `value` are nested more than `most` deep."""
    # Level by level, not recursively: the depth is what an attacker chooses.
    level = [value]
    for _ in range(most + 1):
        inner: list[object] = []
        for part in level:
            if isinstance(part, dict):
                inner += part.values()
            elif isinstance(part, list):
                inner += part
        level = [part for part in inner if isinstance(part, dict | list)]
        if not level:
            return False
    return True


def _length(header: dict[str, Any], key: str, limit: int) -> int:
    value = header.get(key)
    if value is None:
        return 0
    if type(value) is not int or value < 0:  # bool is an int, too
        raise ProtocolError(f"{key} is not a length")
    if value > limit:
        raise ProtocolError(f"{key} of {value} bytes is more than {limit}")
    return value
