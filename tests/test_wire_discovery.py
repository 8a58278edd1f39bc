"""Zeroconf on the loopback interface: seen by a real browser of services, and taken back at the end."""

import asyncio
import logging

import pytest
from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from satellite.wire.discovery import Announcement, default_name, own_addresses

TYPE = "_wyoming._tcp.local."


class Browser:
    """Notes which services come and go."""

    def __init__(self) -> None:
        self.states: asyncio.Queue[tuple[str, ServiceStateChange]] = asyncio.Queue()

    def __call__(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        self.states.put_nowait((name, state_change))

    async def until(self, name: str, state: ServiceStateChange) -> None:
        """Wait until `name` is in `state`."""
        async with asyncio.timeout(30):
            while await self.states.get() != (f"{name}.{TYPE}", state):
                pass


def test_a_service_is_announced_and_taken_back() -> None:
    """A browser on the network finds name, port and address, and sees the goodbye."""

    async def scenario() -> None:
        name = "satellite-test-0123"
        announcement = Announcement(name, 10600, ["127.0.0.1"], interfaces=["127.0.0.1"])
        async with AsyncZeroconf(interfaces=["127.0.0.1"]) as zeroconf:
            seen = Browser()
            browser = AsyncServiceBrowser(zeroconf.zeroconf, TYPE, handlers=[seen])
            assert await announcement.start()
            await seen.until(name, ServiceStateChange.Added)
            found = AsyncServiceInfo(TYPE, f"{name}.{TYPE}")
            assert await found.async_request(zeroconf.zeroconf, 10_000)
            assert found.port == 10600
            assert found.parsed_addresses() == ["127.0.0.1"]
            await announcement.stop()
            await seen.until(name, ServiceStateChange.Removed)
            await announcement.stop()
            await browser.async_cancel()

    asyncio.run(scenario())


def test_nothing_to_announce_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """Without an address the daemon goes on, and the log says why."""

    async def scenario() -> None:
        assert not await Announcement("a", 1, []).start()

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    (record,) = caplog.records
    assert "not announced" in record.message


def test_the_name_lasts_and_is_unique_to_the_port() -> None:
    """Home Assistant knows a service by its name: the same after a restart, another for another daemon."""
    assert default_name(10600) == default_name(10600)
    assert default_name(10600) != default_name(10601)
    assert default_name(10600).startswith("satellite-")


@pytest.mark.parametrize(("host", "addresses"), [("127.0.0.1", []), ("192.168.7.9", ["192.168.7.9"])])
def test_only_addresses_that_can_be_reached_are_announced(host: str, addresses: list[str]) -> None:
    """A daemon on loopback is not announced; one bound to an address announces that address."""
    assert own_addresses(host) == addresses
    assert "0.0.0.0" not in own_addresses("0.0.0.0")
    assert not [address for address in own_addresses("0.0.0.0") if address.startswith("127.")]
