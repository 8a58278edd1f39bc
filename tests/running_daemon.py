"""A real daemon for tests, in a thread of its own."""

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from satellite.config.loader import parse
from satellite.config.settings import Config
from satellite.daemon.daemon import Daemon

T = TypeVar("T")

_TEST_SECONDS = 200.0

PATIENT = "deadlines: {load_seconds: 200, stt_seconds: 100, tts_seconds: 100}\n"
"""What a busy machine that is ten times slower keeps as well."""

CLEAR_VOICE = "tts: {noise_scale: 0, noise_w_scale: 0, length_scale: 1.1}\n"
"""A voice that always sounds the same, and clear: at its usual pace Whisper tiny hears “the capital of friends” in a
quarter of the places where a recording may begin, at this one in none."""

DATA = Path(__file__).parent / "data"


def lonely(models: Path, more: str = "", wyoming: str = "host: 127.0.0.1") -> Config:
    """Return the configuration of a daemon on loopback without HTTP and zeroconf, and with `more`."""
    return parse(
        f"models: {{directory: {models}}}\nzeroconf: {{enabled: false}}\nhttp: {{enabled: false}}\n"
        f"wyoming: {{{wyoming}}}\n{more}\n{'' if 'deadlines:' in more else PATIENT}"
    )


def on_loop_of(name: str) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., None]]:
    """Run an asynchronous test on the event loop of the daemon, or whatever else has one, in the fixture `name`."""

    def decorate(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            owner = fixtures[name]
            owner.call(asyncio.wait_for(test(**fixtures), _TEST_SECONDS))
            owner.settle()

        return run

    return decorate


class RunningDaemon:
    """A daemon on free ports, in a thread with an event loop of its own."""

    def __init__(self, config: Config) -> None:
        self.daemon = Daemon(config, free_ports=True)
        self._own_tasks = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="daemon", daemon=True)

    def __enter__(self) -> "RunningDaemon":
        self._thread.start()
        self.call(self._start())
        return self

    async def _start(self) -> None:
        await self.daemon.__aenter__()
        assert await self.daemon.ready() == []
        await asyncio.sleep(0)
        self._own_tasks = len(asyncio.all_tasks())

    def __exit__(self, *_: object) -> None:
        self.call(self.daemon.__aexit__())
        self.call(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(90)
        self._loop.close()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what `coroutine` returns on the daemon's own loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(240)

    def settle(self) -> None:
        """Wait until no connection, no engine call and no task but the daemon's own is left."""
        self.call(self._settled())

    async def settled(self) -> None:
        """Do the same on the event loop of a test, which goes on meanwhile."""
        await asyncio.to_thread(self.settle)

    async def _settled(self) -> None:
        chat: Any = self.daemon.engines.chat.engine
        local = [model for model in chat.models if model.provider == "local"]
        busy: list[Any] = [*self.daemon._workers.values(), *local]
        async with asyncio.timeout(150):
            while self.daemon._server._connections or any(engine.pending for engine in busy):
                await asyncio.sleep(0.01)
            while len(names := [task.get_name() for task in asyncio.all_tasks()]) > self._own_tasks:
                assert names
                await asyncio.sleep(0.01)

    @contextmanager
    def configured(self, section: str, **settings: object) -> Iterator[None]:
        """Serve with other settings of a section meanwhile, as if they had been loaded again."""
        stages = self.daemon._stages
        before = stages.config
        changed: Any = {section: getattr(before, section).model_copy(update=settings)}
        stages.config = replace(before, **changed)
        try:
            yield
        finally:
            stages.config = before

    def port(self, name: str = "port") -> int:
        return self.daemon.ports[name]

    @property
    def uri(self) -> str:
        return f"tcp://127.0.0.1:{self.port()}"
