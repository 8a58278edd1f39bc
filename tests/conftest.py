"""Shared fixtures: where the models are, recordings, and one real daemon for all tests that talk to one."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from satellite.config import Config
from satellite.configfile import parse
from satellite.daemon import Daemon
from satellite.models import catalogue
from satellite.models.store import Store

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def models_directory() -> Path:
    """The folder with the demo models; `satellite models pull demo` fills it."""
    store = Store()
    for spec in catalogue.DEMO:
        store.path(spec)
    return store.directory


class RunningDaemon:
    """A daemon on free ports, in a thread with an event loop of its own."""

    def __init__(self, config: Config) -> None:
        self.daemon = Daemon(config, free_ports=True)
        self._up = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="daemon")

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            async with self.daemon:
                failures = await self.daemon.ready()
                assert failures == []
                self._up.set()
                await self._stop.wait()
        finally:
            self._up.set()

    def __enter__(self) -> "RunningDaemon":
        self._thread.start()
        self._up.wait(120)
        assert self._thread.is_alive()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive()

    def port(self, name: str = "port") -> int:
        """Return the port behind a setting's name."""
        return self.daemon.ports[name]

    @property
    def uri(self) -> str:
        """The address of all services."""
        return f"tcp://127.0.0.1:{self.port()}"


@pytest.fixture(scope="session")
def daemon(models_directory: Path) -> Iterator[RunningDaemon]:
    """A daemon with the embedded defaults and the demo models."""
    config = parse(
        f"models: {{directory: {models_directory}}}\nzeroconf: {{enabled: false}}\nwyoming: {{host: 127.0.0.1}}"
    )
    with RunningDaemon(config) as running:
        yield running
