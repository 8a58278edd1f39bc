"""`satellite room-names`: the names of all rooms, which the shells' completion reads while somebody types.

It takes what the configuration says without checking it, since that alone would take longer than all of this.
"""

import argparse
import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import yaml

from satellite.errors import SatelliteError
from satellite.wire import client

_ANSWER_SECONDS = 0.3
SYSTEM_CONFIG = Path("/etc/satellite/config.yaml")
"""Written out here, and tested, since to import the module that has it takes longer than all of this."""


async def run(args: argparse.Namespace) -> int:
    """Print the names of the configured rooms and of those that a running daemon knows, one a line; never fails."""
    document: object = None
    with suppress(OSError, ValueError, RecursionError, yaml.YAMLError):
        document = yaml.safe_load((args.config or SYSTEM_CONFIG).read_text(encoding="utf-8"))
    names = list(_configured(document))
    with suppress(SatelliteError, TimeoutError):
        async with asyncio.timeout(_ANSWER_SECONDS):
            names += [str(room["room"]) for room in (await client.status(_uri(document))).get("rooms", ())]
    for name in dict.fromkeys(names):
        if name.isprintable():
            print(name)
    return 0


def _configured(document: object) -> Iterator[str]:
    match document:
        case {"microphone": object(), "host_room": {"name": str(name)}}:
            yield name
    match document:
        case {"rooms": [*rooms]}:
            for room in rooms:
                match room:
                    case {"name": str(name)}:
                        yield name


def _uri(document: object) -> str:
    """Return the address of the daemon that `document` configures."""
    section = document.get("wyoming") if isinstance(document, dict) else None
    match {"host": "0.0.0.0", "port": 0} | (section if isinstance(section, dict) else {}):
        case {"port": int(port), "host": str(host) | [str(host), *_]} if port:
            return client.own_uri([host], port)
    return client.DEFAULT_URI
