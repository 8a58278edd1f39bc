"""`satellite rooms`: the rooms of the daemon, satellites in the network, and this machine's sound devices."""

import argparse
import asyncio
import json

from rich.console import Console
from rich.text import Text

from satellite.cli import room_controls
from satellite.cli.status_page import plain_table, rooms_table
from satellite.config.settings import Config
from satellite.daemon import config_check
from satellite.errors import ConfigError
from satellite.rooms.host.devices import DeviceInfo, list_devices
from satellite.wire import client
from satellite.wire.discovery import discover


async def run(args: argparse.Namespace) -> int:
    """Do what was asked for; `list`, and what is done with a room, need a running daemon."""
    if "room" in args:
        return await room_controls.run(args)
    if args.action_of_rooms == "devices":
        devices = await asyncio.to_thread(list_devices)
        if args.json:
            print(json.dumps(devices, ensure_ascii=False))
        else:
            _print_devices(devices)
        return 0
    if args.action_of_rooms == "discover":
        found = await discover(_own_ports(args))
    else:
        found = (await client.status(args.uri))["rooms"]
    if args.json:
        print(json.dumps({"rooms": found}, ensure_ascii=False))
    else:
        none = "no rooms are configured" if args.action_of_rooms == "list" else "no satellites found on the network"
        Console().print(rooms_table(found) if found else none)
    return 0


def _print_devices(devices: dict[str, list[DeviceInfo]]) -> None:
    console = Console()
    for kind, found in devices.items():
        table = plain_table("number", kind, "by", "rate", "channels", "")
        for one in found:
            cells = (one["host_api"], str(one["rate"]), str(one["channels"]))
            table.add_row(str(one["number"]), Text(one["name"]), *cells, "default" if one["default"] else "")
        console.print(table if found else f"no {kind}")


def _own_ports(args: argparse.Namespace) -> list[int]:
    """Return the configured daemon's ports, or the defaults where the system's configuration cannot be read."""
    try:
        config = config_check.load(args.config)
    except ConfigError:
        config = Config()
    # Else the daemon itself would be found among the satellites.
    return [port for port, _ in config.ports.values()]
