"""`satellite rooms adopt`: finds a device, makes it a room, and lets it speak; `forget` takes a room out again."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.prompt import IntPrompt, Prompt
from rich.table import Table
from rich.text import Text

from satellite.cli.adopt import steps
from satellite.cli.adopt.keys import KeyFolder, read_key
from satellite.cli.doctor import unit
from satellite.cli.status_page import plain_table
from satellite.config import loader
from satellite.config.consistency import places
from satellite.config.editing import check_editable, edit
from satellite.config.room_entries import without_room
from satellite.config.settings import Config
from satellite.daemon import config_check
from satellite.errors import ConfigError, DaemonUnreachable, SatelliteError
from satellite.net.binding import host_and_port
from satellite.rooms.candidates import ADOPTABLE, Candidate, CandidateState, addresses_of
from satellite.rooms.esphome.esphome_connection import addresses
from satellite.rooms.esphome.provisioning import checked_key
from satellite.rooms.examination import examine
from satellite.wire.browsing import DeviceKind, FoundDevice, browse

_ESPHOME_PORT, _SATELLITE_PORT = 6053, 10700
_RESOLVE_SECONDS = 3.0


async def discover(args: argparse.Namespace) -> int:
    """List the devices on the network, and whether they can become rooms."""
    try:
        config = config_check.load(args.config)
    except ConfigError:  # which this user may not read
        config = Config()
    candidates = await _candidates(config, KeyFolder(args.config or loader.SYSTEM_CONFIG).all())
    if args.json:
        print(json.dumps({"rooms": [_as_json(one) for one in candidates]}, ensure_ascii=False))
    else:
        Console(highlight=False, soft_wrap=True).print(_table(candidates) if candidates else "no devices were found")
    return 0


async def adopt(args: argparse.Namespace) -> int:
    """Make a device a room; return the exit status."""
    if args.list:
        return await discover(args)
    file: Path = args.config or loader.SYSTEM_CONFIG
    config = config_check.load(args.config)
    check_editable(file)  # before anyone answers questions
    keys = KeyFolder(file)
    known = [*([read_key(args.key_file)] if args.key_file else []), *keys.all()]
    console = Console(stderr=args.json, highlight=False, soft_wrap=True, markup=False)  # it prints names of devices
    if args.address:
        candidates = await _candidates_at(args.address, config, known)
    else:
        console.print("looking for devices…")
        candidates = await _candidates(config, known)
    asks = not (args.yes or args.json)
    if asks and sys.stdin is None:  # it is closed, which input() takes for a fault of the program
        raise _nobody_answers()
    with _answering():
        is_named = bool(args.address) and len(candidates) == 1
        candidate = await _chosen(candidates, config, known, console, asks=asks, is_named=is_named)
        if candidate.message and (is_named or not asks):
            console.print(f"{candidate.device.name} {candidate.message}")
        name = _room_name(args.room, candidate, config, asks=asks)
    uri = await _lasting_uri(candidate.device, keeps_address=bool(args.address))
    adopted = await steps.write(file, candidate, name, uri, keys, console.print)
    console.print(f"{name} is written to {file}; the old content is in {adopted.backup}")
    status = await _connect(args, adopted, config, console)
    if args.json:
        print(json.dumps(adopted.as_json(), ensure_ascii=False))
    return status


async def forget(args: argparse.Namespace) -> int:
    """Take a room out of the configuration, and let the daemon leave it; return the exit status."""
    file: Path = args.config or loader.SYSTEM_CONFIG
    config_check.load(args.config)
    backup = edit(file, lambda text: without_room(text, args.name), config_check.check)
    if args.json:
        print(json.dumps({"room": args.name, "config": str(file), "backup": str(backup)}, ensure_ascii=False))
    else:
        print(f"{args.name} is no longer in {file}; the old content is in {backup}")
    await steps.reload(args.uri, file)
    return 0


@contextmanager
def _answering() -> Iterator[None]:
    """Let Ctrl-C and the end of the input end the command while it waits for an answer, and nothing was changed."""
    # asyncio's own handler would only cancel a task, which waits for the input as well.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except EOFError as error:
        print(file=sys.stderr)  # after the question
        raise _nobody_answers() from error
    except KeyboardInterrupt:
        print("\nnothing was changed", file=sys.stderr)
        raise
    finally:
        signal.signal(signal.SIGINT, before)


def _nobody_answers() -> SatelliteError:
    return SatelliteError("nobody answers; with --yes nothing is asked. Nothing was changed", code="no-answer")


async def _candidates(config: Config, keys: Collection[str]) -> list[Candidate]:
    """Return the devices on the network, without the daemon itself."""
    found = await browse([port for port, _ in config.ports.values()])
    return await examine(found, addresses_of(config.rooms), list(keys))


async def _candidates_at(address: str, config: Config, keys: Collection[str]) -> list[Candidate]:
    """Return the devices at an address; raises `SatelliteError` where none answers."""
    found = await examine(_addressed(address), addresses_of(config.rooms), list(keys))
    answering = [one for one in found if one.state is not CandidateState.OFF]
    if not answering:
        raise SatelliteError("; ".join(one.message for one in found), code="room-unreachable")
    # Its port may belong to another program: the one that can become a room is meant.
    return [one for one in answering if one.state is not CandidateState.NO_SATELLITE] or answering[:1]


def _addressed(address: str) -> list[FoundDevice]:
    """Return what may be at an address: `tcp://host:port`, `esphome://host`, or a host with or without a port."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    kinds = {"tcp": [DeviceKind.WYOMING], "esphome": [DeviceKind.ESPHOME], "": list(DeviceKind)}.get(parts.scheme)
    if not host or not kinds:
        raise ConfigError(f"{address!r} is no address of a device: expected HOST, HOST:PORT, tcp:// or esphome://")
    ports = {DeviceKind.WYOMING: _SATELLITE_PORT, DeviceKind.ESPHOME: _ESPHOME_PORT}
    return [FoundDevice(kind, host, (host,), port or ports[kind]) for kind in kinds]


async def _chosen(
    candidates: Sequence[Candidate],
    config: Config,
    keys: Sequence[str],
    console: Console,
    *,
    asks: bool,
    is_named: bool = False,
) -> Candidate:
    """Return the device to adopt, the only one where that `is_named`.

    Raises `SatelliteError` where it is not free, or programs have to name it.
    """
    if not candidates:
        cure = "are they switched on, and in this network? Name one that is: satellite rooms adopt --address HOST"
        raise SatelliteError(f"no devices were found; {cure}", code="no-device")
    adoptable = [one for one in candidates if one.state in ADOPTABLE]
    if asks and is_named:
        candidate = candidates[0]
        if candidate.state is CandidateState.LOCKED:
            candidate = await _unlocked(candidate, config, keys, console)
    elif asks:
        console.print(_table(candidates))
        usual = candidates.index(adoptable[0]) + 1 if adoptable else 1
        choices = [str(number + 1) for number in range(len(candidates))]
        while True:
            candidate = candidates[IntPrompt.ask("which one", console=console, choices=choices, default=usual) - 1]
            if candidate.state is CandidateState.UNKNOWN:
                chosen = replace(candidate.device, is_program=False)  # now it is meant
                candidate = (await examine([chosen], addresses_of(config.rooms), keys))[0]
                console.print(f"{candidate.device.name} {candidate.message}")
            if candidate.state is CandidateState.LOCKED:
                candidate = await _unlocked(candidate, config, keys, console)
            if candidate.state in ADOPTABLE or not adoptable:
                break
            console.print(f"{candidate.device.name} {candidate.message}")
    elif len(adoptable) > 1:
        names = ", ".join(f"{one.device.uri} ({one.device.name})" for one in adoptable)
        raise SatelliteError(f"several devices are free: {names}; name one by --address", code="several-devices")
    else:
        candidate = (adoptable or candidates)[0]
    if candidate.state not in ADOPTABLE:
        reason = f"{candidate.device.name} at {candidate.device.uri} cannot be adopted: {candidate.message}"
        raise SatelliteError(reason, code=f"device-{candidate.state}")
    return candidate


async def _unlocked(candidate: Candidate, config: Config, keys: Sequence[str], console: Console) -> Candidate:
    """Return a device as it is reached with a key that somebody types; nothing typed leaves it locked."""
    console.print(f"{candidate.device.name} {candidate.message}")
    while typed := Prompt.ask("its key, or nothing", console=console, password=True, default="", show_default=False):
        try:
            found = (await examine([candidate.device], addresses_of(config.rooms), [checked_key(typed), *keys]))[0]
        except SatelliteError as error:
            console.print(str(error))
            continue
        if found.state is not CandidateState.LOCKED:
            return found
        console.print(f"{candidate.device.name} refuses that key")
    return candidate


def _room_name(given: str | None, candidate: Candidate, config: Config, *, asks: bool) -> str:
    """Return the name of the room; raises `ConfigError` for one that there is already."""
    taken = {place.name.strip().casefold() for _, place in places(config)}
    proposed = candidate.device.friendly_name or candidate.device.name
    name = given or (str(Prompt.ask("name of the room", default=proposed)) if asks else proposed)
    while name.strip().casefold() in taken:
        if given or not asks:
            raise ConfigError(f"there is a room called {name!r} already; choose another name by --room")
        name = str(Prompt.ask(Text(f"there is a room called {name!r} already; another name")))
    return name.strip()


async def _lasting_uri(device: FoundDevice, *, keeps_address: bool = False) -> str:
    """Return a device's address that stays when the router gives it another one, where that can be resolved.

    Where it `keeps_address`, that by which the device was named.
    """
    if device.kind is DeviceKind.WYOMING or keeps_address or device.name in device.addresses:
        return device.uri.removesuffix(f":{_ESPHOME_PORT}")
    host = f"{device.name}.local"
    try:
        async with asyncio.timeout(_RESOLVE_SECONDS):
            resolved = await addresses(host, device.port)
    except (SatelliteError, TimeoutError):
        resolved = []
    lasting = host if set(resolved) & set(device.addresses) else device.addresses[0]
    return f"esphome://{host_and_port(lasting, device.port)}".removesuffix(f":{_ESPHOME_PORT}")


async def _connect(args: argparse.Namespace, adopted: steps.Adopted, config: Config, console: Console) -> int:
    """Let the daemon connect the room and speak there; return the exit status."""
    try:
        try:
            await steps.reload(args.uri, Path(adopted.config))
        except ConfigError as error:
            steps.take_out(adopted)
            kept = f"; the device's key is kept in {adopted.key_file}" if adopted.key_file else ""
            raise ConfigError(f"{error}. The room was taken out of {adopted.config} again{kept}") from error
        console.print("waiting until the daemon has connected it…")
        adopted.state, adopted.message = await steps.until_connected(args.uri, adopted.room)
        if adopted.state == "connected" and not args.silent:
            language = (config.spoken_languages or ("en",))[0]
            failure = await steps.play_sentence(args.uri, adopted.room, language)
            adopted.heard, adopted.message = not failure, failure or adopted.message
    except ConfigError:
        raise
    except SatelliteError as error:
        start = "sudo systemctl start satellite" if unit.installed() else "satellite run"
        remedy = f"; start it: {start}" if isinstance(error, DaemonUnreachable) else ""
        adopted.message = f"{error}{remedy}"
        print(f"error: [{error.code}] {adopted.room} is configured, but {adopted.message}", file=sys.stderr)
        return 5 if isinstance(error, DaemonUnreachable) else 1
    if adopted.state != "connected":
        print(f"error: {adopted.room} is {adopted.state}: {adopted.message}; see satellite doctor", file=sys.stderr)
        return 1
    if not (adopted.heard or args.silent):
        print(f"error: {adopted.room} is connected, but not heard: {adopted.message}", file=sys.stderr)
        return 1
    console.print(f"{adopted.room} is connected" + ("" if args.silent else ", and has spoken a sentence"))
    return 0


def _as_json(one: Candidate) -> dict[str, str]:
    device = one.device
    found = {"room": device.name, "uri": device.uri, "kind": device.kind.value}
    return found | {"state": one.state.value, "message": one.message}


def _table(candidates: Sequence[Candidate]) -> Table:
    table = plain_table("", "device", "address", "state", "")
    table.columns[2].no_wrap = True
    for number, one in enumerate(candidates, 1):
        name = Text(one.device.friendly_name or one.device.name)
        state = Text(one.state.value, "green" if one.state in ADOPTABLE else "yellow")
        table.add_row(str(number), name, Text(one.device.uri), state, Text(one.message))
    return table
