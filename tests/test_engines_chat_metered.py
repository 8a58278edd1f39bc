"""What keeping a model warm costs: the CPU time of its own steps, and nothing else changes."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from satellite.engines.chat.cost import Cost
from satellite.engines.chat.metered import Metered


def burn(seconds: float) -> None:
    """Use the CPU."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


async def _burn_twice() -> str:
    burn(0.05)
    await asyncio.sleep(0.05)
    burn(0.05)
    return "done"


def test_only_its_own_steps_are_counted() -> None:
    """Neither waiting counts, nor what others do on the same thread meanwhile."""

    async def neighbour() -> None:
        burn(0.3)

    async def main() -> None:
        metered = Metered(_burn_twice())
        other = asyncio.create_task(neighbour())
        assert await metered == "done"
        await other
        assert 0.1 <= metered.seconds < 0.3

    asyncio.run(main())


def test_an_exception_passes_through() -> None:
    """With what was used before it."""

    async def fails() -> None:
        burn(0.02)
        await asyncio.sleep(0)
        raise LookupError("nothing there")

    async def main() -> None:
        metered = Metered(fails())
        with pytest.raises(LookupError, match="nothing there"):
            await metered
        assert metered.seconds >= 0.02

    asyncio.run(main())


@pytest.mark.parametrize("catches", [True, False])
def test_a_cancellation_belongs_to_the_coroutine(catches: bool) -> None:
    """It may clean up, and even go on."""
    cleaned: list[str] = []

    async def work() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            cleaned.append("yes")
            if not catches:
                raise
        return "went on"

    async def main() -> None:
        task = asyncio.create_task(Cost().count("look", work))
        await asyncio.sleep(0.01)
        task.cancel()
        if catches:
            assert await task == "went on"
        else:
            with pytest.raises(asyncio.CancelledError):
                await task
        assert cleaned == ["yes"]

    asyncio.run(main())


def test_a_timeout_inside_works() -> None:
    """It ends what it is around, and not the task."""

    async def impatient() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "too long"
        return ""

    async def main() -> None:
        assert await Metered(impatient()) == "too long"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await Metered(asyncio.Event().wait())

    asyncio.run(main())


def test_a_cost_is_counted_by_kind() -> None:
    """Also of what fails."""
    cost = Cost()

    async def main() -> None:
        await cost.count("look", _burn_twice)
        await cost.count("look", lambda: asyncio.sleep(0.05, "x"))
        for failing in (_fail, _fail):
            with pytest.raises(LookupError):
                await cost.count("ping", failing)

    asyncio.run(main())
    assert cost.requests == {"look": 2, "ping": 2}
    assert 0.1 <= cost.cpu_seconds < cost.server_seconds
    assert cost.server_seconds >= 0.15


async def _fail() -> None:
    raise LookupError


def test_the_cost_of_an_hour_is_told() -> None:
    """At the present rate; a daemon that has just begun does not tell of thousands."""
    cost = Cost()

    async def main() -> None:
        calls: list[Coroutine[Any, Any, Any]] = [cost.count("prime", lambda: asyncio.sleep(0)) for _ in range(2)]
        await asyncio.gather(*calls)

    asyncio.run(main())
    told = cost.described()
    assert told["requests_per_hour"] == {"prime": pytest.approx(7200, rel=0.9)}
    assert 0 < told["requests_per_hour"]["prime"] <= 7200
    assert 0 <= told["cpu_seconds_per_hour"] < 3600
    assert 0 <= told["server_seconds_per_hour"] <= 2 * 3600
