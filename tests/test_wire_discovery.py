"""Zeroconf on the loopback interface: seen by a real browser of services, followed, and taken back at the end."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from satellite.wire.discovery import (
    AnnouncedAddresses,
    Interface,
    Presence,
    current_addresses,
    default_name,
    identity,
    reachable,
)
from tests.waiting import PATIENCE_SECONDS

TYPE = "_wyoming._tcp.local."
LOOPBACK = ("127.0.0.1",)


async def found(zeroconf: AsyncZeroconf, name: str) -> tuple[int | None, list[str]]:
    """Return port and addresses of a service, asked again."""
    info = AsyncServiceInfo(TYPE, f"{name}.{TYPE}")
    assert await info.async_request(zeroconf.zeroconf, 30_000)
    return info.port, info.parsed_addresses()


@pytest.mark.slow
async def test_services_are_announced_followed_and_taken_back() -> None:
    name, later = "satellite-test-0123", "The office (upstairs)"
    services = {name: 10600}
    here = AnnouncedAddresses(LOOPBACK, LOOPBACK)
    presence = Presence(lambda: services, lambda: here, check_seconds=0.05)
    states: asyncio.Queue[tuple[str, ServiceStateChange]] = asyncio.Queue()

    def note(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        states.put_nowait((name, state_change))

    async def seen(name: str, state: ServiceStateChange) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await states.get() != (f"{name}.{TYPE}", state):
                pass

    async with AsyncZeroconf(interfaces=["127.0.0.1"]) as zeroconf:
        browser = AsyncServiceBrowser(zeroconf.zeroconf, TYPE, handlers=[note])
        running = asyncio.create_task(presence.run())
        await seen(name, ServiceStateChange.Added)
        assert await found(zeroconf, name) == (10600, ["127.0.0.1"])
        services[later] = 10700
        await seen(later, ServiceStateChange.Added)
        assert await found(zeroconf, later) == (10700, ["127.0.0.1"])
        here = AnnouncedAddresses((), ())
        await seen(name, ServiceStateChange.Removed)
        here = AnnouncedAddresses(("192.0.2.7",), LOOPBACK)
        await seen(name, ServiceStateChange.Added)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await seen(name, ServiceStateChange.Removed)
        await presence.stop()
        await browser.async_cancel()


@pytest.mark.slow
# zeroconf then leaves the socket that it had opened to the collector of garbage, which closes it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_without_an_address_or_with_one_that_has_just_gone_it_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    here = AnnouncedAddresses((), ())
    presence = Presence(lambda: {"satellite-test-gone": 1}, lambda: here)
    with caplog.at_level(logging.INFO):
        await presence.follow()
        await presence.follow()
        for addresses in (("192.0.2.99",), LOOPBACK):
            here = AnnouncedAddresses(addresses, addresses)
            await presence.follow()
        await presence.stop()
    logged = [record.message.partition(" by zeroconf")[0] for record in caplog.records]
    assert logged == ["not announced", "not announced", "announced"]


def test_the_name_lasts_and_is_unique_to_machine_and_port() -> None:
    name = default_name(10600, "a")
    assert name.startswith("satellite-")
    assert default_name(10600, "a") == name
    assert len({name, default_name(10601, "a"), default_name(10600, "b")}) == 3


@pytest.mark.parametrize("content", [None, "", "\n", "uninitialized\n", "é", "0123"])
def test_a_machine_without_an_id_gets_one_that_lasts(tmp_path: Path, content: str | None) -> None:
    machine_id = tmp_path / "machine-id"
    if content is not None:
        machine_id.write_text(content)
    first = identity(tmp_path / "one", machine_id)
    assert first
    assert identity(tmp_path / "one", machine_id) == first
    assert identity(tmp_path / "two", machine_id) != first


def test_a_machine_with_an_id_needs_no_file_and_a_folder_that_cannot_be_had_is_no_failure(tmp_path: Path) -> None:
    machine_id = tmp_path / "machine-id"
    machine_id.write_text("0123456789abcdef0123456789abcdef\n")
    assert identity(tmp_path / "state", machine_id) == "0123456789abcdef0123456789abcdef"
    assert not (tmp_path / "state").exists()
    assert identity(machine_id, tmp_path / "absent")


VIRTUAL = "docker0 br-3f2c9a71d0e4 veth12ab virbr0 tun0 tap0 wg0 tailscale0 ztabcdef12 cni0 flannel.1 lxcbr0 podman0"
MACHINE = [
    *(Interface("lo", address) for address in ("127.0.0.1", "::1")),
    *(Interface("enp3s0", address) for address in ("192.168.1.10", "fe80::1", "fd00::10")),
    Interface("wlan0", "192.168.2.10"),
    Interface("br0", "192.168.3.10"),
    Interface("usb0", "169.254.3.4"),
    *(Interface(name, f"10.8.{number}.1") for number, name in enumerate(VIRTUAL.split())),
]


@pytest.mark.parametrize(
    ("hosts", "addresses"),
    [
        (["0.0.0.0"], ("192.168.1.10", "192.168.2.10", "192.168.3.10")),
        (["::"], ("192.168.1.10", "fd00::10", "192.168.2.10", "192.168.3.10")),
        (["0.0.0.0", "::"], ("192.168.1.10", "fd00::10", "192.168.2.10", "192.168.3.10")),
        (["127.0.0.1"], ()),
        (["::1", "192.168.7.9"], ("192.168.7.9",)),
        (["10.8.0.1"], ("10.8.0.1",)),
    ],
)
def test_only_addresses_that_can_be_reached_are_announced(hosts: Sequence[str], addresses: tuple[str, ...]) -> None:
    assert reachable(hosts, MACHINE) == addresses


def test_this_machine_has_no_address_that_is_none() -> None:
    assert not [
        address for address in current_addresses(["::"]).addresses if address.startswith(("0.", "127.", "::1", "fe80"))
    ]
    assert current_addresses(["localhost"]).addresses == ()
