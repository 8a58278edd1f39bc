"""Rooms are added to a configuration and taken out, and nothing else of the file changes."""

import difflib

import pytest
import yaml

from satellite.config.loader import parse
from satellite.config.reference import example
from satellite.config.room_entries import with_room, without_room
from satellite.errors import ConfigError

ENTRY = {"name": "kitchen", "uri": "tcp://192.0.2.1:10700"}
BLOCK = "rooms:\n  - name: kitchen\n    uri: tcp://192.0.2.1:10700\n"
DEEP = BLOCK.removeprefix("rooms:\n")
FLAT = "- name: kitchen\n  uri: tcp://192.0.2.1:10700\n"
BATH = "- name: bath  # upstairs\n  uri: 'tcp://192.0.2.2:10700'\n"


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        ("", BLOCK),
        ("# mine\n", f"# mine\n\n{BLOCK}"),
        ("log_level: info", f"log_level: info\n\n{BLOCK}"),
        ("a: 1\n#rooms: []\nb: 2\n", f"a: 1\n#rooms: []\n{BLOCK}b: 2\n"),
        ("# rooms:\n#  - name: x\n#    uri: y\nb: 2\n", f"# rooms:\n#  - name: x\n#    uri: y\n{BLOCK}b: 2\n"),
        ("a:\n#rooms: []\n  b: 1\n", f"a:\n#rooms: []\n  b: 1\n\n{BLOCK}"),
        ("rooms:  # none yet\n# next\nb: 2\n", BLOCK.replace(":", ":  # none yet", 1) + "# next\nb: 2\n"),
        ("rooms: []  # none\n", BLOCK.replace(":", ":  # none", 1)),
        ("rooms: []", BLOCK),
        ("rooms: null\nb: 2\n", BLOCK + "b: 2\n"),
        ("{rooms: [], a: 1}", "{rooms: [{name: kitchen, uri: 'tcp://192.0.2.1:10700'}], a: 1}"),
        (
            "rooms: [{name: a, uri: b}, ] # c\n",
            "rooms: [{name: a, uri: b}, {name: kitchen, uri: 'tcp://192.0.2.1:10700'}, ] # c\n",
        ),
        (f"rooms:\n{BATH}\n# next\nb: 2\n", f"rooms:\n{BATH}{FLAT}\n# next\nb: 2\n"),
        ("rooms:\r\n  - name: a", "rooms:\r\n  - name: a\r\n" + DEEP.replace("\n", "\r\n")),
    ],
)
def test_a_room_is_added_and_nothing_else_changes(text: str, edited: str) -> None:
    assert with_room(text, ENTRY) == edited
    assert yaml.safe_load(edited)["rooms"][-1] == ENTRY
    if "name: bath" in text:
        assert without_room(edited, "KITCHEN ") == text


def test_the_example_gains_three_lines_where_rooms_are_explained() -> None:
    edited = with_room(example(), ENTRY)
    changes = [line for line in difflib.ndiff(example().splitlines(), edited.splitlines()) if line[0] != " "]
    assert changes == [f"+ {line}" for line in BLOCK.splitlines()]
    assert edited[: edited.index(BLOCK)].endswith("#rooms: []\n")
    assert [room.name for room in parse(edited).rooms] == ["kitchen"]


@pytest.mark.parametrize("name", ["no", "7", "Zoé's: room", "#1", "- dash", "küche {1}"])
def test_a_name_is_quoted_where_yaml_would_read_something_else(name: str) -> None:
    for text in ("", "rooms: [{name: a, uri: 'tcp://b:1'}]"):
        assert parse(with_room(text, ENTRY | {"name": name})).rooms[-1].name == name


@pytest.mark.parametrize("text", ["a: &a []\nrooms: *a\n", "--- {a: 1}\n...\n", "a: 1\n...\n"])
def test_what_cannot_be_extended_is_explained_with_the_lines_to_write(text: str) -> None:
    with pytest.raises(ConfigError, match="add this by hand:\nrooms:\n  - name: kitchen\n    uri: tcp"):
        with_room(text, ENTRY)


@pytest.mark.parametrize(
    ("text", "edited"),
    [
        ("a: 1\nrooms:\n  # one\n  - name: kitchen\n    uri: b\n\n# next\nb: 2\n", "a: 1\nrooms: []\n\n# next\nb: 2\n"),
        ("rooms: [{name: kitchen}]\n", "rooms: []\n"),
        ("rooms: [{name: kitchen}, {name: b}]\n", "rooms: [{name: b}]\n"),
        ("rooms: [{name: a}, {name: kitchen}, {name: b}]\n", "rooms: [{name: a}, {name: b}]\n"),
        ("rooms:\n- name: kitchen\n  uri: x\n# b\n- name: b\n", "rooms:\n# b\n- name: b\n"),
    ],
)
def test_a_room_is_taken_out(text: str, edited: str) -> None:
    assert without_room(text, "Kitchen") == edited


def test_a_room_that_is_not_there_cannot_be_taken_out() -> None:
    with pytest.raises(ConfigError, match="no room of the configuration is called 'attic'"):
        without_room("rooms: [{name: a}, 3]", "attic")
