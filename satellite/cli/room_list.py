"""`satellite rooms`: the rooms of the daemon, devices in the network, and this machine's sound devices."""

import argparse
import asyncio
import json

from rich.console import Console
from rich.text import Text

from satellite.cli import room_controls
from satellite.cli.status_page import plain_table, rooms_table
from satellite.rooms.host.devices import DeviceInfo, list_devices
from satellite.wire import client


async def run(args: argparse.Namespace) -> int:
    """Do what was asked for; `list`, and what is done with a room, need a running daemon."""
    if args.action_of_rooms in ("adopt", "discover", "forget"):
        # Imported late: the library for ESPHome's API takes a while.
        from satellite.cli.adopt import adoption

        actions = {"adopt": adoption.adopt, "discover": adoption.discover, "forget": adoption.forget}
        return await actions[args.action_of_rooms](args)
    if "room" in args:
        return await room_controls.run(args)
    if args.action_of_rooms == "devices":
        devices = await asyncio.to_thread(list_devices)
        if args.json:
            print(json.dumps(devices, ensure_ascii=False))
        else:
            _print_devices(devices)
        return 0
    rooms = (await client.status(args.uri))["rooms"]
    if args.json:
        print(json.dumps({"rooms": rooms}, ensure_ascii=False))
    else:
        Console().print(rooms_table(rooms) if rooms else "no rooms are configured; satellite rooms adopt makes one")
    return 0


def _print_devices(devices: dict[str, list[DeviceInfo]]) -> None:
    console = Console()
    for kind, found in devices.items():
        table = plain_table("number", kind, "by", "rate", "channels", "")
        for one in found:
            cells = (one["host_api"], str(one["rate"]), str(one["channels"]))
            table.add_row(str(one["number"]), Text(one["name"]), *cells, "default" if one["default"] else "")
        console.print(table if found else f"no {kind}")
