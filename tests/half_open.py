"""A daemon and a satellite in a network of their own, whose packets are swallowed for a while; a program.

It prints the state of the link before, while and after. With the loopback interface down, what is sent is dropped
without an error, as by a switch that has lost its power.
"""

import asyncio
import ctypes
import fcntl
import os
import socket
import struct

from satellite.config.rooms import WyomingRoomSettings
from satellite.config.settings import Config
from satellite.daemon.daemon import Daemon
from satellite.rooms.room import LinkState
from tests.doubles.satellite import ScriptedSatellite
from tests.driven_rooms import hub_of
from tests.waiting import until

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000  # linux/sched.h
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # linux/sockios.h, linux/if.h


def leave_the_network() -> None:
    """Give this process a network of its own, without anything in it but a loopback interface, which is down."""
    flags = _NEW_NETWORK if os.geteuid() == 0 else _NEW_NETWORK | _NEW_USER
    if ctypes.CDLL(None, use_errno=True).unshare(flags):
        raise OSError(ctypes.get_errno(), "a network namespace cannot be made")


def loopback(*, up: bool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, _GET_FLAGS, request))[1]
        flags = flags | _UP if up else flags & ~_UP
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags))


async def main() -> None:
    daemon = Daemon(Config(), free_ports=True)  # not started: nobody speaks here
    async with ScriptedSatellite(mode="always") as satellite:
        hub = hub_of(daemon, WyomingRoomSettings(name="far away", uri=satellite.uri))
        hub.start()
        try:
            for up, state in ((True, LinkState.CONNECTED), (False, LinkState.OFF), (True, LinkState.CONNECTED)):
                loopback(up=up)
                await until(lambda state=state: hub.satellites[0].state is state)  # type: ignore[misc]
                print(state.value, flush=True)
                if not up:
                    await asyncio.sleep(1)  # it is dialled in vain
        finally:
            await hub.stop()


if __name__ == "__main__":
    leave_the_network()
    loopback(up=True)
    asyncio.run(main())
