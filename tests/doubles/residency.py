"""Which models are in memory, who waits for them, and when they go: Ollama's scheduler."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from tests.doubles.http import Refusal
from tests.doubles.runner import PrefixCache, expiry_nanoseconds

DIED = "an error was encountered while running the model: unexpected EOF"


class Terms(Protocol):
    """What the server is set to; looked up anew for each request."""

    load_seconds: float
    keep_alive_seconds: float
    max_loaded_models: int
    fail_loads: str | None


@dataclass(frozen=True, slots=True)
class Generation:
    """What reading one conversation took."""

    evaluated_tokens: int
    cached_tokens: int


@dataclass
class Counts:
    """What has happened so far."""

    loads: int = 0
    reloads: int = 0  # those of the loads that took the place of a runner with other options, or of a dead one
    aborted_loads: int = 0  # loads whose client hung up, or that ended with the server
    pings: int = 0  # requests without a conversation
    generations: list[Generation] = field(default_factory=list)  # answers that were begun


@dataclass(eq=False)
class Runner:
    """A loaded model."""

    name: str  # the name it was loaded under
    blob: str
    context_tokens: int
    keep_alive_seconds: float
    slot: asyncio.Lock = field(default_factory=asyncio.Lock)  # the place for the one answer that is generated at a time
    users: int = 0
    last_used: float = 0.0
    expires_at_nanoseconds: int | None = None  # None until the first request has ended
    is_dead: bool = False
    cache: PrefixCache = field(default_factory=PrefixCache)
    lives: set[asyncio.Timeout] = field(default_factory=set)  # scopes of what ends with the process
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    timer: asyncio.TimerHandle | None = None

    def expires_at(self) -> int:
        """Return the time in nanoseconds that `/api/ps` shows."""
        if self.expires_at_nanoseconds is None:
            return expiry_nanoseconds(time.time_ns(), self.keep_alive_seconds)
        return self.expires_at_nanoseconds

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` in the process; raises `Refusal` when that dies."""
        if self.is_dead:
            raise Refusal(500, DIED)
        life = asyncio.timeout(None)
        try:
            async with life:
                self.lives.add(life)
                await work()
        except TimeoutError:
            if not life.expired():
                raise
            raise Refusal(500, DIED) from None
        finally:
            self.lives.discard(life)

    def kill(self) -> None:
        """End the process; whoever it works for finds out, nobody else does."""
        self.is_dead = True
        now = asyncio.get_running_loop().time()
        for scope in self.lives:
            scope.reschedule(now)
        self.lives.clear()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request needs to be in memory."""

    name: str
    blob: str
    context_tokens: int
    keep_alive_seconds: float | None


class Residency:
    """The loaded models; one at a time is loaded or waited for.

    Room is made as Ollama 0.32.15 makes it: the runner that is to go gets a keep-alive of nought and is waited for, by
    everybody who needs a load. A request that is served meanwhile by that runner and brings a keep-alive of its own
    sets it back, and then it never goes, and nobody else is ever served.
    """

    def __init__(self, terms: Terms, counts: Counts) -> None:
        self.loaded: dict[str, Runner] = {}  # by blob: names that share one share its runner
        self._terms = terms
        self._counts = counts
        self._turn = asyncio.Lock()
        self._leaving: Runner | None = None  # who is to make room
        self._awaited: asyncio.Task[None] | None = None

    async def acquire(self, wanted: Wanted) -> Runner:
        """Return a runner, loaded if need be, that stays until it is released; raises `Refusal`."""
        runner = self.loaded.get(wanted.blob)
        if runner is None or _is_stale(runner, wanted):
            runner = await self._in_turn(wanted)
        runner.users += 1
        runner.last_used = time.monotonic()
        _stop_timer(runner)
        if wanted.keep_alive_seconds is not None:
            runner.keep_alive_seconds = wanted.keep_alive_seconds
        return runner

    def release(self, runner: Runner) -> None:
        """Let the runner go; once nobody uses it, its time to live begins."""
        runner.users -= 1
        runner.last_used = time.monotonic()
        if runner.users:
            return
        if runner.keep_alive_seconds <= 0:
            self._unload(runner)
            return
        runner.expires_at_nanoseconds = expiry_nanoseconds(time.time_ns(), runner.keep_alive_seconds)
        if runner.keep_alive_seconds < float("inf"):
            loop = asyncio.get_running_loop()
            runner.timer = loop.call_later(runner.keep_alive_seconds, self._unload, runner)

    def expire(self, blob: str) -> None:
        """Unload as soon as nobody uses it."""
        runner = self.loaded.get(blob)
        if runner is not None:
            runner.expires_at_nanoseconds = time.time_ns()
            runner.keep_alive_seconds = 0
            self._unload_when_idle(runner)

    def forget(self) -> None:
        for runner in list(self.loaded.values()):
            self._unload(runner)

    async def _in_turn(self, wanted: Wanted) -> Runner:
        await self._turn.acquire()
        try:
            return await self._provided(wanted)
        finally:
            if self._leaving is None:
                self._turn.release()
            else:  # whoever waited has hung up, but room is made all the same, and nobody is served before
                self._awaited = asyncio.create_task(self._pass_on_the_turn(self._leaving), name="make room")

    async def _pass_on_the_turn(self, leaving: Runner) -> None:
        await leaving.gone.wait()
        self._leaving = None
        self._turn.release()

    async def _provided(self, wanted: Wanted) -> Runner:
        replaces = False
        while True:
            runner = self.loaded.get(wanted.blob)
            if runner is not None and not _is_stale(runner, wanted):
                return runner
            if runner is None and len(self.loaded) < self._terms.max_loaded_models:
                return await self._load(wanted, replaces=replaces)
            replaces = runner is not None
            leaving = runner or self._victim()
            leaving.keep_alive_seconds = 0
            self._leaving = leaving
            self._unload_when_idle(leaving)
            await leaving.gone.wait()
            self._leaving = None

    def _victim(self) -> Runner:
        """Return the runner that makes room: an unused one, of those the one with the shortest keep-alive."""
        return min(
            self.loaded.values(), key=lambda runner: (runner.users > 0, runner.keep_alive_seconds, runner.last_used)
        )

    async def _load(self, wanted: Wanted, *, replaces: bool) -> Runner:
        try:
            await asyncio.sleep(self._terms.load_seconds)
        except asyncio.CancelledError:  # the client has hung up: nothing is loaded afterwards
            self._counts.aborted_loads += 1
            raise
        if self._terms.fail_loads is not None:
            raise Refusal(500, f"llama-server process has terminated: {self._terms.fail_loads}")
        self._counts.loads += 1
        self._counts.reloads += replaces
        runner = self.loaded[wanted.blob] = Runner(
            wanted.name, wanted.blob, wanted.context_tokens, self._terms.keep_alive_seconds
        )
        return runner

    def _unload_when_idle(self, runner: Runner) -> None:
        _stop_timer(runner)
        if not runner.users:
            self._unload(runner)

    def _unload(self, runner: Runner) -> None:
        _stop_timer(runner)
        if self.loaded.get(runner.blob) is runner:
            del self.loaded[runner.blob]
        runner.gone.set()


def _is_stale(runner: Runner, wanted: Wanted) -> bool:
    return runner.is_dead or runner.context_tokens != wanted.context_tokens


def _stop_timer(runner: Runner) -> None:
    if runner.timer is not None:
        runner.timer.cancel()
        runner.timer = None
