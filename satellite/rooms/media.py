"""Sound that a device fetches from this machine by HTTP: what rooms need of the server that it fetches it from."""

import asyncio
from collections.abc import Mapping
from typing import Literal, Protocol

from satellite.audio.pcm import AudioFormat

Container = Literal["flac", "wav"]


class MediaStream(Protocol):
    """A sound of unknown length at an address that one device may fetch."""

    url: str
    fetched: asyncio.Event
    """Set once the device has asked for it."""

    async def write(self, pcm: bytes) -> None:
        """Add whole frames; waits while the device has two seconds to fetch. Raises `ConnectionError` if it is gone.

        Whenever there is none, the device is sent silence: a player that waits for sound takes it for the end.
        """

    def end(self) -> None:
        """There is no more of it."""

    def abort(self) -> None:
        """Take back what was not fetched; may be called at any time."""


class MediaServer(Protocol):
    """Publishes sound and files for one device each, at addresses that nobody can guess and that expire."""

    async def publish(
        self, layout: AudioFormat, container: Container, peer: str, *, host: str | None = None, anybody: bool = False
    ) -> MediaStream:
        """Return an address for 16-bit sound in `layout`, open to the machine at the IP address `peer` alone.

        With `anybody` it is open to every machine of the house. `host` is the name or address of this machine in it;
        None takes the one by which `peer` is reached. Raises `CannotListen`.
        """

    async def publish_files(self, files: Mapping[str, bytes], peer: str, *, owner: str, host: str | None = None) -> str:
        """Return the address of a folder with `files`, by their names; it replaces the one published for `owner`.

        Several programs on the machine `peer` may be rooms.
        """
