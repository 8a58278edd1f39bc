"""The parser and writer of Wyoming's framing, against `wyoming`'s own, and against garbage."""

import asyncio
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wyoming.event import Event, async_read_event, read_event, write_event

from satellite.errors import ProtocolError
from satellite.wire.framing import EventParser, Limits, encode

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
events = st.builds(
    Event,
    type=st.text(min_size=1),
    data=st.dictionaries(st.text(), json_values, max_size=4),
    payload=st.none() | st.binary(min_size=1, max_size=400),
)


def parse(data: bytes, *, step: int = 10_000, limits: Limits | None = None) -> list[Event]:
    parser = EventParser(limits or Limits())
    return [event for at in range(0, len(data), step) for event in parser.feed(data[at : at + step])]


def by_wyoming(event: Event) -> bytes:
    output = io.BytesIO()
    write_event(event, output)
    return output.getvalue()


@given(st.lists(events, max_size=4), st.integers(1, 50))
def test_reads_what_wyoming_writes_however_it_is_cut(sent: list[Event], step: int) -> None:
    assert parse(b"".join(map(by_wyoming, sent)), step=step) == sent


@given(events)
def test_writes_byte_for_byte_what_wyoming_writes_and_reads(event: Event) -> None:
    ours, theirs = encode(event), by_wyoming(event)
    assert read_event(io.BytesIO(ours)) == event
    assert json.loads(ours.split(b"\n")[0]) == json.loads(theirs.split(b"\n")[0])
    assert ours.split(b"\n", 1)[1] == theirs.split(b"\n", 1)[1]


odd_headers = st.dictionaries(st.sampled_from(["type", "data", "data_length", "payload_length", "x"]), json_values).map(
    lambda header: json.dumps(header).encode()
)


@given(odd_headers | st.binary(), st.binary())
async def test_odd_headers_agree_with_the_reference_or_are_refused(header: bytes, rest: bytes) -> None:
    data = header + b"\n" + rest
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    try:
        expected = await async_read_event(reader)
    except (AttributeError, KeyError, TypeError, ValueError, asyncio.IncompleteReadError):
        expected = None
    try:
        first = next(EventParser().feed(data), None)
    except ProtocolError:
        first = None
    if first is not None:
        assert expected is not None
        assert (first.type, first.payload) == (expected.type, expected.payload)
        assert first.data == (expected.data or {})


@pytest.mark.parametrize(
    "data",
    [
        b"not json\n",
        b"[1]\n",
        b"{}\n",
        b'{"type": 3}\n',
        b'{"type": "x", "data_length": "3"}\n',
        b'{"type": "x", "data_length": true}\n',
        b'{"type": "x", "data_length": -1}\n',
        b'{"type": "x", "data_length": 1e3}\n',
        b'{"type": "x", "data_length": 3}\n[1]',
        b'{"type": "x", "data": [1]}\n',
        b'{"type": "x", "payload_length": 99999999999999999999}\n',
        b'{"type": "x", "data_length": 2000000}\n',
        b"[" * 60_000 + b"\n",
        b'{"type": "x", "data": {"n": ' + b"9" * 50_000 + b"}}\n",
        b'{"type": "x", "data": {"n": ' + b"[" * 64 + b"]" * 64 + b"}}\n",
        b'{"type": "x", "data": {"n": ' + b"[" * 1_500 + b"]" * 1_500 + b"}}\n",
        b'{"type": "x", "data": {"n": ' + b'{"n":' * 1_500 + b"1" + b"}" * 1_500 + b"}}\n",
        b'{"type": "x", "data_length": 3006}\n{"n": ' + b"[" * 1_500 + b"]" * 1_500,
        b'{"type": "x", "data_length": 99007}\n{"n": [' + b"[]," * 33_000,
        b"\xff\xfe\n",
        b"x" * 70_000,
    ],
)
def test_refuses(data: bytes) -> None:
    with pytest.raises(ProtocolError, check=lambda error: error.code == "protocol-error"):
        parse(data)


def test_brackets_in_a_text_and_side_by_side_are_no_nesting() -> None:
    data: dict[str, Any] = {"text": "[{" * 1_000, "many": [[], {}] * 1_000, "deep": 1}
    for _ in range(61):
        data["deep"] = [data["deep"]]
    (event,) = parse(encode(Event(type="x", data=data)))
    assert event.data == data


def test_holds_no_more_than_the_limits() -> None:
    with pytest.raises(ProtocolError):
        parse(b"x" * 10_000, step=100, limits=Limits(header_bytes=1000))


def test_knows_when_an_event_is_under_way() -> None:
    parser = EventParser()
    data = encode(Event(type="audio-chunk", data={"rate": 16000}, payload=bytes(100)))
    assert not parser.mid_event
    assert list(parser.feed(data[:30])) == []
    assert parser.mid_event
    assert list(parser.feed(data[30:-1])) == []
    assert parser.owed_bytes > 100
    assert len(list(parser.feed(data[-1:]))) == 1
    assert not parser.mid_event


def test_header_data_is_overridden_by_the_data_block_and_half_a_character_survives() -> None:
    data = b'{"type": "x", "data": {"a": 1, "b": 1}, "data_length": 8}\n{"b": 2}'
    event = Event(type="x", data={"text": "a\ud800b"})
    assert parse(data + encode(event)) == [Event(type="x", data={"a": 1, "b": 2}), event]
