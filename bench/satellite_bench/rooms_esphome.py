"""ESPHome rooms: when a device is answered, in one room and in several at once.

All times are between what the device sends and receives, so that the network's part is in them.
"""

from collections.abc import Callable
from typing import Any

from satellite.errors import SatelliteError
from satellite_bench.rooms import EsphomeFigures, Sounds, asked
from satellite_bench.rooms_house import House
from satellite_bench.stats import Summary, summarise


async def turns(
    house: House, sounds: Sounds, together: int, *, repeats: int, on_progress: Callable[[int, int], None]
) -> tuple[EsphomeFigures, list[str]]:
    """Ask in one room after the other, and in so many at once; return what went wrong too."""
    alone, at_once = await asked(house, sounds, together, repeats, on_progress)
    failures = [f"rooms: no answer in an ESPHome room: {one['text']}" for one in (*alone, *at_once) if one["failed"]]
    heard = [one for one in alone if not one["failed"]]
    try:
        return EsphomeFigures(
            _between(alone, "started_at", "taken_at"),
            _between(heard, "asked_at", "fetch_at"),
            _between(heard, "asked_at", "sound_at"),
            _between(heard, "clause_at", "sound_at"),
            together,
            _between([one for one in at_once if not one["failed"]], "asked_at", "sound_at"),
        ), failures
    except ValueError:
        raise SatelliteError("\n".join(failures[:4]), code="bench-rooms") from None


def _between(asked: list[dict[str, Any]], since: str, until: str) -> Summary:
    return summarise([1000 * (float(one[until]) - float(one[since])) for one in asked])
