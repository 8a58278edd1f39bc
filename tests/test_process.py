"""What the daemon asks of the operating system for its own process."""

import asyncio
import os
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from satellite.process import follow_time_zone
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture
def _own_zone() -> Iterator[None]:
    """Leave the time zone as it was."""
    before = os.environ.get("TZ")
    yield
    os.environ.pop("TZ", None)
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.usefixtures("_own_zone")
def test_a_change_of_the_time_zone_is_followed() -> None:
    """Whatever tells the time tells it of the new zone; by itself it would not."""
    os.environ["TZ"] = "UTC0"
    time.tzset()

    async def scenario() -> None:
        os.environ["TZ"] = "JST-9"
        assert datetime.fromtimestamp(0).hour == 0
        following = asyncio.create_task(follow_time_zone())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while datetime.fromtimestamp(0).hour != 9:
                await asyncio.sleep(0.01)
            os.environ["TZ"] = "EST5"
            while datetime.fromtimestamp(0).hour != 19:
                await asyncio.sleep(0.01)
        following.cancel()

    asyncio.run(scenario())
