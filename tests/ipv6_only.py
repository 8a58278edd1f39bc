"""A device that announces itself by IPv6 alone, on a cable between two interfaces of a network of its own.

A program: it prints the addresses by which the device is found, and those that its name has.
"""

import asyncio
import fcntl
import os
import socket
import struct

from zeroconf import IPVersion
from zeroconf.asyncio import AsyncZeroconf

from satellite.rooms.esphome.esphome_connection import addresses
from satellite.rooms.esphome.mdns import SharedMdns
from satellite.wire.browsing import browse
from satellite.wire.discovery import interfaces
from tests.doubles.esphome import EsphomeDevice
from tests.half_open import leave_the_network, loopback
from tests.waiting import until

_NEW_LINK, _REQUEST_NEW = 16, 0x605  # linux/rtnetlink.h; request, acknowledge, create, exclusively
_SET_FLAGS, _UP_MULTICAST = 0x8914, 0x1001  # linux/sockios.h, linux/if.h
_CABLE = b"near", b"far"


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("HH", len(data) + 4, kind) + data + bytes(-len(data) % 4)


def lay_cable() -> None:
    """Make a pair of interfaces, and switch both on; the kernel gives each a link-local address."""
    near, far = (bytes(16) + attribute(3, name + b"\0") for name in _CABLE)
    link = near + attribute(18, attribute(1, b"veth") + attribute(2, attribute(1, far)))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
        kernel.send(struct.pack("IHHII", len(link) + 16, _NEW_LINK, _REQUEST_NEW, 1, 0) + link)
        if error := -struct.unpack_from("i", kernel.recv(4096), 16)[0]:
            raise OSError(error, os.strerror(error))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for name in _CABLE:
            fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", name, _UP_MULTICAST))


def address_of(name: str) -> str:
    """Return the address of an interface that can be used; empty while there is none."""
    found = [f"{one.address}%{one.name}" for one in interfaces() if one.name == name and ":" in one.address]
    with socket.socket(socket.AF_INET6) as any_socket:
        try:
            any_socket.bind(socket.getaddrinfo(found[0], 0)[0][4])
        except (IndexError, OSError):
            return ""
    return found[0]


async def main() -> None:
    await until(lambda: address_of("near") and address_of("far"))
    host = address_of("near")
    device = EsphomeDevice(name="six", host=host, port=6053)
    async with AsyncZeroconf(interfaces=[host.partition("%")[0]], ip_version=IPVersion.V6Only) as network:
        await (await network.async_register_service(device.service()))
        through = {(host,), (host.replace("near", "far"),)}  # which of them hears it first
        print(*(one.addresses in through for one in await browse()), flush=True)
        async with SharedMdns().used("six.local") as mdns:
            (known,) = await addresses("six.local", 6053, mdns)
        print(known.partition("%")[0] == host.partition("%")[0], flush=True)


if __name__ == "__main__":
    leave_the_network()
    loopback(up=True)
    lay_cable()
    asyncio.run(main())
