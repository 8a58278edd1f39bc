"""Two servers, one request each in turn, so that whatever else the machine does hits both alike."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from satellite.errors import SatelliteError
from satellite_bench.server import Server
from satellite_bench.stats import Compared, summarise

Item = TypeVar("Item")
Result = TypeVar("Result")

_REST_SECONDS = 0.1
"""Between two requests: threads that still spin after one answer must not slow the next one."""

REQUEST_SECONDS = 120.0
"""After this long a request counts as failed."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Our server and, unless only ours is measured, theirs for the same stage."""

    ours: Server
    theirs: Server | None = None

    @property
    def servers(self) -> tuple[Server, ...]:
        """Those that take part, ours first."""
        return (self.ours, self.theirs) if self.theirs else (self.ours,)


@dataclass(slots=True)
class Outcome(Generic[Item, Result]):
    """What each server gave, item by item; None stands for a request that failed."""

    ours: list[tuple[Item, Result | None]] = field(default_factory=list)
    theirs: list[tuple[Item, Result | None]] | None = None
    failures: list[str] = field(default_factory=list)

    def compared(self, figure: Callable[[Result], float], only: Sequence[Item] | None = None) -> Compared:
        """Return a figure of the results, of all items or `only` some; raises where a server never answered."""

        def of(side: list[tuple[Item, Result | None]]) -> list[float]:
            return [figure(result) for item, result in side if result is not None and (only is None or item in only)]

        try:
            return Compared(summarise(of(self.ours)), None if self.theirs is None else summarise(of(self.theirs)))
        except ValueError:
            raise SatelliteError("\n".join(self.failures[:4]), code="bench-request") from None


async def compete(
    pair: Pair,
    items: Sequence[Item],
    request: Callable[[Server, Item], Awaitable[Result]],
    *,
    repeats: int,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Outcome[Item, Result]:
    """Give every item to every server `repeats` times, one request at a time, and return what came back."""
    outcome: Outcome[Item, Result] = Outcome(theirs=[] if pair.theirs else None)
    total = len(items) * repeats
    for number, (item, servers) in enumerate(turns(pair, items, repeats), 1):
        for server in servers:
            await asyncio.sleep(_REST_SECONDS)
            result = await _attempt(server, item, request, outcome.failures)
            side = outcome.ours if server is pair.ours or outcome.theirs is None else outcome.theirs
            side.append((item, result))
        on_progress(number, total)
    return outcome


def turns(pair: Pair, items: Sequence[Item], repeats: int) -> Iterator[tuple[Item, tuple[Server, ...]]]:
    """Yield every item with the order of the servers: it swaps from item to item and from repeat to repeat."""
    for repeat in range(repeats):
        for index, item in enumerate(items):
            yield item, pair.servers if (index + repeat) % 2 == 0 else pair.servers[::-1]


async def _attempt(
    server: Server, item: Item, request: Callable[[Server, Item], Awaitable[Result]], failures: list[str]
) -> Result | None:
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            return await request(server, item)
    except TimeoutError:
        failures.append(f"{server.name}: no answer within {REQUEST_SECONDS:g} s")
    except (SatelliteError, OSError) as error:
        failures.append(f"{server.name}: {error}")
    return None
