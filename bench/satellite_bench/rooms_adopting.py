"""A new ESPHome device: from the command that adopts it to the sentence that is heard in the new room."""

import asyncio
import re
import sys
import time
from pathlib import Path

from satellite.errors import SatelliteError
from satellite_bench import own
from satellite_bench.rooms_house import House
from satellite_bench.stats import Summary, summarise

_ANSWER_SECONDS = 60.0


async def adoption(house: House, config: Path, *, repeats: int) -> Summary:
    """Have new devices announced, adopt each by `satellite rooms adopt`, and return the seconds until it sounds.

    The questions are answered as soon as they are asked. The daemon that reads `config` is running.
    """
    seconds: list[float] = []
    for number in range(1, repeats + 1):
        device = await house.do({"do": "offer", "name": f"bench-new-{number}"})
        try:
            began = await _adopt(config, device["uri"], f"new room {number}")
            seconds.append((await house.do({"do": "heard"}))["sound_at"] - began)
        finally:
            await house.do({"do": "withdraw"})
    return summarise(seconds)


async def _adopt(config: Path, uri: str, room: str) -> float:
    """Adopt the device at `uri`, and no other one that the network may have; return when the command was given."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "satellite", "--config", str(config), "rooms", "adopt"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=own.environment() | {"COLUMNS": "200", "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            shown = (await process.stdout.readuntil(b"which one")).decode()
            found = re.search(rf"(?m)^\W*(\d+) .*{re.escape(uri)}\b", shown)
            if found is None:
                process.stdin.write_eof()
                raise SatelliteError(f"{uri} was not found by mDNS", code="bench-rooms")
            process.stdin.write(f"{found[1]}\n{room}\n".encode())
            _, told = await process.communicate()
    except (TimeoutError, asyncio.IncompleteReadError) as error:
        raise SatelliteError("satellite rooms adopt does not ask which device", code="bench-rooms") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise SatelliteError(told.decode(errors="replace").strip(), code="bench-rooms")
    return began
