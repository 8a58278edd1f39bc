"""Devices are found by zeroconf on the loopback interface, without the daemon itself."""

import subprocess
import sys
from pathlib import Path

import pytest
from zeroconf import ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

from satellite.wire.browsing import DeviceKind, FoundDevice, browse
from tests.doubles.esphome import EsphomeDevice
from tests.waiting import PATIENCE_SECONDS

LOOPBACK = ["127.0.0.1"]


@pytest.mark.slow
async def test_satellites_and_esphome_devices_are_found_and_the_daemon_is_not() -> None:
    async with (
        EsphomeDevice(name="voice-09f3ab", friendly_name="Red \x1b[31m") as device,
        EsphomeDevice(name="a-program", is_lva=True, formats=()) as program,
        AsyncZeroconf(interfaces=LOOPBACK) as network,
    ):
        for announced in (device, program):
            await network.async_register_service(announced.service())
        for name, port in (("Kitchen (upstairs)", 21_700), ("satellite-itself", 10_600)):
            address = "_wyoming._tcp.local."
            info = ServiceInfo(address, f"{name}.{address}", port=port, parsed_addresses=LOOPBACK, server="pi.local.")
            await network.async_register_service(info)
        ours = ("Kitchen (upstairs)", "voice-09f3ab", "satellite-itself")  # of other tests beside them
        found = [one for one in await browse([10_600], through=LOOPBACK) if one.name in ours]
        assert found == [
            FoundDevice(DeviceKind.WYOMING, "Kitchen (upstairs)", ("127.0.0.1",), 21_700),
            FoundDevice(
                DeviceKind.ESPHOME,
                "voice-09f3ab",
                ("127.0.0.1",),
                device.port,
                mac="20f83b000001",
                friendly_name="Red \\x1b[31m",
                project="Nabu Casa.Home Assistant Voice PE",
            ),
        ]
        assert [one.uri for one in found] == ["tcp://127.0.0.1:21700", f"esphome://127.0.0.1:{device.port}"]
        assert [one.is_program for one in await browse(through=LOOPBACK) if one.name == "a-program"] == [True]
        assert "satellite-itself" in [one.name for one in await browse([21_700], through=LOOPBACK)]


@pytest.mark.slow
def test_a_device_is_found_in_a_house_with_ipv6_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.ipv6_only"],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True", "True"]
