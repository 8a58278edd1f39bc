"""ESPHome rooms in a network of their own, on whose only link the machine and the device have several addresses.

A program: it prints what it found, a line each.
"""

import asyncio
import fcntl
import socket
import struct
from contextlib import suppress

from zeroconf.asyncio import AsyncZeroconf

from satellite.rooms.esphome.esphome_room import EsphomeRoom
from satellite.rooms.room import LinkState
from tests.doubles.esphome import EsphomeDevice
from tests.esphome_rooms import LoudEngine, house, turn
from tests.half_open import leave_the_network, loopback
from tests.waiting import until

_ADD_ADDRESS = 0x8916  # linux/sockios.h
_LINK_LOCAL = "fe80::1"


def give_address(address: str) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as any_socket:
        where = socket.inet_pton(socket.AF_INET6, address) + struct.pack("Ii", 64, socket.if_nametoindex("lo"))
        fcntl.ioctl(any_socket, _ADD_ADDRESS, where)


def has_address(address: str) -> bool:
    """Return whether the address may be used yet: the kernel takes a moment."""
    with socket.socket(socket.AF_INET6) as any_socket, suppress(OSError):
        any_socket.bind(socket.getaddrinfo(address, 0)[0][4])
        return True
    return False


async def answer_in(device: EsphomeDevice, room: EsphomeRoom) -> None:
    await until(lambda: room.state is LinkState.CONNECTED)
    url = next(taken.data["url"] for taken in await turn(device) if taken.type == "RUN_START")
    await until(lambda: device.heard and device.heard[-1].loud_at)
    print(device.host, url.rpartition(":")[0], room.status().message, flush=True)


async def main() -> None:
    await until(lambda: has_address(f"{_LINK_LOCAL}%lo"))
    async with house(LoudEngine(answer=["Yes."])) as home, EsphomeDevice(host=f"{_LINK_LOCAL}%lo") as device:
        for uri in (f"esphome://[{_LINK_LOCAL}%lo]:{device.port}", f"esphome://[{_LINK_LOCAL}%25lo]:{device.port}"):
            async with home.room(device, uri=uri) as room:
                await answer_in(device, room)
    async with (
        house(LoudEngine(answer=["Yes."])) as home,
        EsphomeDevice(name="voice", host="127.0.0.2") as device,
        AsyncZeroconf(interfaces=["127.0.0.1"]) as network,
    ):
        info = device.service()
        info.addresses = [socket.inet_pton(socket.AF_INET6, _LINK_LOCAL), socket.inet_aton(device.host)]
        await network.async_register_service(info)
        async with home.room(device, uri=f"esphome://voice.local:{device.port}") as room:
            await answer_in(device, room)
            await device.stop()
            await until(lambda: room.state is LinkState.OFF)
            device.host = "127.0.0.3"
            info = device.service()
            await device.start()
            await network.async_update_service(info)
            await answer_in(device, room)


if __name__ == "__main__":
    leave_the_network()
    loopback(up=True)
    give_address(_LINK_LOCAL)
    asyncio.run(main())
