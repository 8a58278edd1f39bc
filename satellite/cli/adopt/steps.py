"""The steps that make a device a room, in the order in which nothing is lost where one of them fails."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from satellite.cli.adopt.keys import KeyFolder
from satellite.config.editing import check_edit, edit
from satellite.config.room_entries import with_room, without_room
from satellite.daemon import config_check
from satellite.errors import ConfigError, SatelliteError
from satellite.languages import translated_or_english
from satellite.rooms.candidates import Candidate, CandidateState
from satellite.rooms.esphome.provisioning import new_key, provision
from satellite.wire import client
from satellite.wire.client import JsonObject

_CONNECT_SECONDS = 30.0
_LOOK_SECONDS = 0.3
_SETTLED = ("connecting", "off")
"""States in which a room may still become connected by itself."""


@dataclass(slots=True)
class Adopted:
    """What has become of an adoption."""

    room: str
    uri: str
    config: str
    backup: str = ""
    key_file: str | None = None
    state: str = "written"
    """`written` to the configuration, else the state of the room in the daemon, such as `connected`."""

    message: str = ""
    heard: bool = False
    """Whether the test sentence was played in the room."""

    def as_json(self) -> JsonObject:
        """Return it for programs."""
        return asdict(self)


async def write(
    file: Path, candidate: Candidate, name: str, uri: str, keys: KeyFolder, say: Callable[[str], None]
) -> Adopted:
    """Give the device a key if it needs one, and write it to the configuration `file` as the room `name`.

    The key is on disk before the device has it. Raises `SatelliteError`, with where the key is if the device has it.
    """
    adopted = Adopted(name, uri, str(file))
    entry: dict[str, object] = {"name": name, "uri": uri}
    needs_key = candidate.state is CandidateState.NO_KEY
    key = new_key() if needs_key else candidate.key
    key_file = keys.all().get(key) if key else None
    stored = None
    if key and key_file is None:
        key_file = stored = keys.store(candidate.device.name, key)
    if key_file is not None:
        entry["key_file"] = adopted.key_file = str(key_file)
        if candidate.dials_as:
            entry["mac"] = candidate.dials_as
    if not candidate.has_wake_words:
        entry["wake_words"] = []
    try:
        check_edit(file, lambda text: with_room(text, entry), config_check.check)
        if needs_key:
            say(f"giving {candidate.device.name} an encryption key, which is kept in {key_file}")
            await provision(candidate, key)
    except SatelliteError as error:
        if stored is None or error.code == "key-unconfirmed":  # then this file may be the only way in
            raise _with_key_place(error, stored) from error
        stored.unlink()
        raise
    try:
        adopted.backup = str(edit(file, lambda text: with_room(text, entry), config_check.check))
    except ConfigError as error:
        raise _with_key_place(error, stored) from error
    return adopted


def _with_key_place(error: SatelliteError, stored: Path | None) -> SatelliteError:
    """Return the error with the place of a key that the device has now."""
    if stored is None:
        return error
    told = f"{error}; the device's new key is kept in {stored}, where the next `satellite rooms adopt` finds it"
    return type(error)(told, code=error.code)


async def reload(uri: str, file: Path) -> None:
    """Let the daemon at `uri` read its configuration again.

    Raises `DaemonUnreachable` where there is none, `ConfigError` where it reads another file than `file`.
    """
    read = str((await client.command(uri, "reload"))["config"])
    if not _is_same(Path(read), file):
        raise ConfigError(f"the daemon at {uri} reads {read}, not {file}; name that one: satellite --config {read}")


def _is_same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def take_out(adopted: Adopted) -> None:
    """Take the room out of the configuration again; the device keeps its key, and the file with it stays."""
    edit(Path(adopted.config), lambda text: without_room(text, adopted.room), config_check.check)


async def until_connected(uri: str, name: str) -> tuple[str, str]:
    """Return the state of the room `name` in the daemon, and a sentence about it, as soon as it is settled."""
    end = time.monotonic() + _CONNECT_SECONDS
    state, message = "unknown", "the daemon did not take the configuration: satellite status, and its log, say why"
    while time.monotonic() < end:
        rooms = (await client.status(uri))["rooms"]
        room = next((room for room in rooms if room["room"] == name), None)
        if room is not None:
            state, message = room["state"], room["message"]
            if state not in _SETTLED:
                break
        await asyncio.sleep(_LOOK_SECONDS)
    return state, message


async def play_sentence(uri: str, name: str, language: str) -> str:
    """Speak a sentence in the room; return why it was not heard, or nothing."""
    text = translated_or_english("room_connected", language).format(name=name)
    try:
        failed = (await client.command(uri, "announce", text=text, rooms=[name]))["failed"]
    except SatelliteError as error:
        return str(error)
    return str(failed.get(name, ""))
