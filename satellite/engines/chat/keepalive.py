"""Keeps one Ollama model loaded, on the GPU, and its prompt read: the timer.

A look is a `GET /api/ps`, which costs Ollama next to nothing. A ping is an empty chat request: it loads what is not
loaded and renews the keep-alive, but costs Ollama up to a tenth of a second, so that it is sent only when a look asks
for it, and now and then, since Ollama goes on listing a runner that has died. A prime has the model read the unchanging
beginning of the prompt. None of them is sent while a question is being answered, nor right after.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from satellite.config import KeepAlive
from satellite.engines import Message
from satellite.engines.chat.breaker import Breaker
from satellite.engines.chat.cost import Cost
from satellite.engines.chat.ollama_api import OllamaApi
from satellite.engines.chat.residency import RESIDENT, Loaded, Residency, find, findings, likely_alias
from satellite.engines.chat.reuse import PrefixGauge
from satellite.engines.chat.schedule import Schedule
from satellite.engines.chat.sightings import Sightings
from satellite.engines.health import Health
from satellite.errors import ChatError, ChatRejected, ChatUnavailable

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")

_LOOK_SECONDS = 3.0
_LOOK_WHEN_DOWN_SECONDS = 1.0
"""A server that is back is to be noticed soon."""

_LOAD_SECONDS = 300.0
"""Ollama's own limit for loading, OLLAMA_LOAD_TIMEOUT."""

_PRIME_SECONDS = 120.0
_LONGEST_PING_GAP_SECONDS = 10.0
_PING_SHARE = 0.01
"""Part of Ollama's time that pings may take."""

_SLOW_PING_SECONDS = 0.3
_SLOW_PING_FACTOR = 5
"""A ping that takes this much longer than usual has loaded the model: the runner had died."""

_LONGEST_RETRY_SECONDS = 30.0
_LOST_SHARE = 0.05
"""How much less of the model on the GPU is worth loading it again."""

_STATE_OF = {
    "chat-unreachable": Residency.UNREACHABLE,
    "chat-timeout": Residency.SILENT,
    "chat-unknown-model": Residency.MODEL_MISSING,
}


class _TurnBegan(Exception):
    """A question came while something less urgent was under way."""


class Keeper:
    """The keep-alive timer of one model; `run` it for as long as the model is in use."""

    def __init__(
        self, api: OllamaApi, settings: KeepAlive, prefix: Sequence[Message], *, patience_seconds: float
    ) -> None:
        """Watch over the model of `api`; `prefix` is how every prompt begins."""
        self.breaker = Breaker()
        self.gauge = PrefixGauge()
        self.cost = Cost()
        self.schedule = Schedule(settings)
        self.sightings = Sightings(api)
        self.entry: Loaded | None = None
        """The model as it was last listed."""

        self.load_seconds: float | None = None
        """How long the last load took."""

        self._api = api
        self._settings = settings
        self._prefix = list(prefix)
        self._patience_seconds = patience_seconds
        self._alias: str | None = None
        self._context_tokens: int | None = None
        self._usual_ping_seconds: float | None = None
        self._contact_at = float("-inf")
        self._used_at = time.monotonic()
        self._best_gpu_share = 0.0
        self._tried_for_gpu = False
        self._retry_seconds = self._retry_at = 0.0
        self._primed = False
        self._expected: list[Message] | None = None
        self._turns = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._urgent = False
        self._poked = asyncio.Event()
        self._settled = asyncio.Event()
        self._yielding: tuple[asyncio.Task[Any], Sequence[Message]] | None = None

    # What the chat model asks and tells.

    @property
    def health(self) -> Health:
        """Return whether a question would be answered, and why not."""
        if not self.breaker.up:
            return Health(self.breaker.state, False, self.breaker.reason, since=self.breaker.since)
        state = self.sightings.state
        if state in (Residency.LOADING, Residency.RELEASED):
            up = self._seconds_to_warm() <= self._patience_seconds
        else:
            up = state in RESIDENT or state is Residency.UNKNOWN
        return Health(state, up, self.sightings.words, since=self.sightings.since)

    def described(self) -> dict[str, Any]:
        """Return the state of the model, how often it came into which, and what keeping it warm costs."""
        return {
            "state": self.sightings.state,
            "when": self.schedule.described(),
            "seen": {state.value: count for state, count in sorted(self.sightings.seen.items())},
            "load_seconds": None if self.load_seconds is None else round(self.load_seconds, 2),
            "prefix_tokens": self.gauge.prefix_tokens,
            "gpu_share": None if self.entry is None else round(self.entry.gpu_share, 2),
            "context_tokens": None if self.entry is None else self.entry.context_tokens,
            "cost": self.cost.described(),
        }

    @property
    def loading(self) -> bool:
        """Whether a load of our own is under way, which goes on when somebody gives up waiting for an answer."""
        return self.sightings.state is Residency.LOADING

    @property
    def idle_seconds(self) -> float:
        """How long ago the model was last used, or expected to be."""
        return 0.0 if self._turns else time.monotonic() - self._used_at

    @contextmanager
    def turn(self, messages: Sequence[Message]) -> Iterator[None]:
        """Stay out of the way while a question is being answered."""
        if self._yielding is not None:
            task, reading = self._yielding
            if not reading or list(messages[: len(reading)]) != list(reading):  # else it is work for this question
                task.cancel()
        self._turns += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._turns -= 1
            self._used_at = self._contact_at = time.monotonic()
            if not self._turns:
                self._idle.set()

    def expect(self, messages: Sequence[Message]) -> None:
        """Be ready for a question that begins with `messages`, which may be empty."""
        self._used_at = time.monotonic()
        self._expected = list(messages) or self._expected
        self._poke()

    def answered(self, load_seconds: float | None) -> None:
        """Note an answer, and how long it says that the model took to load."""
        self.breaker.succeeded()
        if load_seconds is not None and load_seconds > self._slow_seconds():
            if self.sightings.state in RESIDENT:
                self.sightings.passed(Residency.RUNNER_DIED, f"{load_seconds:.1f} s to load it again, in an answer")
            self.load_seconds = load_seconds

    def suspect(self, error: ChatError) -> None:
        """Note that a question failed: until a look, a ping and a prime succeed, none shall wait for this model."""
        self.breaker.failed(error)
        self._poke()

    async def settled(self) -> None:
        """Wait until it is known what is the matter with the model; raises `ChatUnavailable` when it cannot answer."""
        await self._settled.wait()
        if not self.health.up:
            raise ChatUnavailable(self.health.words, kind="not-ready")

    # The timer.

    async def run(self) -> None:
        """Look after the model until cancelled."""
        while True:
            await self._idle.wait()
            rested = time.monotonic() - self._used_at >= self._settings.interval_seconds
            if (rested or self._urgent) and self._is_wanted():
                self._urgent = False
                try:
                    await self._tick()
                except Exception:  # the timer's boundary: whatever broke one look, the next one comes
                    _LOGGER.exception("%s: looking after the model failed", self._api.server)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.interval_seconds):
                    await self._poked.wait()
            self._poked.clear()

    def _poke(self) -> None:
        self._urgent = True
        self._poked.set()

    def _is_wanted(self) -> bool:
        """Switched off, the timer only begins, and brings back a model that does not answer."""
        return self._settings.enabled or not self._settled.is_set() or not self.health.up

    async def _tick(self) -> None:
        try:
            if self._settings.enabled and not self.schedule.wants_warm(datetime.now(), self.idle_seconds):
                await self._release()
            else:
                await self._look()
        except _TurnBegan:
            return
        except ChatError as error:
            self._failed(error)
        self._settled.set()

    async def _look(self) -> None:
        down = self.sightings.state in (Residency.UNREACHABLE, Residency.SILENT)
        seconds = _LOOK_WHEN_DOWN_SECONDS if down else _LOOK_SECONDS
        loaded = await self._call("look", lambda: self._api.loaded(seconds))
        if time.monotonic() < self._retry_at:
            return
        entry = find(loaded, self._api.model, self._alias)
        if entry is not None and self._has_lost_gpu(entry):
            await self._call("ping", self._api.unload)
            entry = None
        probing = self.breaker.due
        if entry is None or probing or self._needs_ping(entry):
            entry = await self._ping(entry)
        if probing or not self._primed or self._expected is not None:
            await self._prime()
        self._show(entry)
        if probing:
            self.breaker.probed(None)

    def _needs_ping(self, entry: Loaded) -> bool:
        if {Residency.FOREIGN_KEEP_ALIVE, Residency.OTHER_CONTEXT} & set(self._findings(entry)):
            return True
        gap = min((self._usual_ping_seconds or 0.0) / _PING_SHARE, _LONGEST_PING_GAP_SECONDS)
        return self._expected is None and time.monotonic() - self._contact_at >= gap

    async def _ping(self, entry: Loaded | None) -> Loaded | None:
        """Load the model, or renew its keep-alive; return it as it is listed then."""
        wrong = [] if entry is None else self._findings(entry)
        self.sightings.find(wrong)
        loads = entry is None or Residency.OTHER_CONTEXT in wrong
        if loads:
            self.sightings.enter(Residency.LOADING)
        began = time.monotonic()
        # A load is never given up, or Ollama would abort it. Anything else gives way to a question.
        await self._call("ping", lambda: self._api.load(_LOAD_SECONDS), gives_way=not loads)
        seconds = time.monotonic() - began
        self._contact_at = time.monotonic()
        slow = seconds > self._slow_seconds()
        if loads:
            self.load_seconds = seconds
        elif slow:
            self.sightings.passed(Residency.RUNNER_DIED, f"{seconds:.1f} s to load it again")
        else:
            usual = self._usual_ping_seconds
            self._usual_ping_seconds = seconds if usual is None else 0.8 * usual + 0.2 * seconds
        if loads or slow:
            self._primed = False
        now = await self._listed_now()
        if entry is None and (now is None or self._alias is None):
            self.sightings.passed(Residency.NOT_LOADED, f"{seconds:.1f} s to load it")
        self._show(now)
        return now

    def _slow_seconds(self) -> float:
        """Return how long a request must take for a load to be in it."""
        return max(_SLOW_PING_SECONDS, _SLOW_PING_FACTOR * (self._usual_ping_seconds or 0.0))

    async def _listed_now(self) -> Loaded | None:
        """Return the entry of the model that has just answered, under whatever name, and take it for the measure."""
        loaded = await self._call("look", lambda: self._api.loaded(_LOOK_SECONDS))
        self._alias = None
        entry = find(loaded, self._api.model, None)
        if entry is None:
            self._alias = likely_alias(loaded, self._api.context_tokens)
            entry = find(loaded, self._api.model, self._alias)
        self._context_tokens = None if entry is None else entry.context_tokens
        return entry

    async def _prime(self) -> None:
        """Have the prompt's beginning read: with the room's history if a question is expected."""
        messages, self._expected = self._expected or self._prefix, None
        cold, self._primed = not self._primed, True
        try:
            prime = partial(self._api.prime, messages, _PRIME_SECONDS)
            part = await self._call("prime", prime, gives_way=True, reading=messages)
        except ChatRejected as error:  # some templates want a question; then the first one is read whole
            _LOGGER.debug("%s does not read a prompt without a question: %s", self._api.server, error)
            return
        except (ChatError, _TurnBegan, asyncio.CancelledError):
            self._primed = not cold
            raise
        self._contact_at = time.monotonic()
        if cold and messages == self._prefix:
            self.gauge.learn(part)

    async def _release(self) -> None:
        """Let the model go: it is not wanted warm now."""
        if self.sightings.state is Residency.RELEASED:
            return
        await self._call("ping", self._api.unload)
        self._forget()
        self.sightings.enter(Residency.RELEASED)

    async def _call(
        self,
        kind: str,
        call: Callable[[], Coroutine[Any, Any, T]],
        *,
        gives_way: bool = False,
        reading: Sequence[Message] = (),
    ) -> T:
        """Await `call` and count what it costs; if it `gives_way`, a question cuts it short.

        Not a question that begins with what is being `reading`: it would have to wait for the same work.
        """
        if gives_way and self._turns:
            raise _TurnBegan
        task = asyncio.create_task(self.cost.count(kind, call), name=f"keep-alive {kind}")
        if gives_way:
            self._yielding = (task, reading)
        try:
            await asyncio.wait([task])
        finally:
            self._yielding = None
            task.cancel()
        if task.cancelled():
            raise _TurnBegan
        return task.result()

    # What it has seen.

    def _findings(self, entry: Loaded) -> list[Residency]:
        return findings(entry, self._api.model, self._context_tokens)

    def _has_lost_gpu(self, entry: Loaded) -> bool:
        """Tell whether less of it is on the GPU than once was, for which loading it again is tried once."""
        if entry.gpu_share >= self._best_gpu_share - _LOST_SHARE:
            self._best_gpu_share = max(self._best_gpu_share, entry.gpu_share)
            self._tried_for_gpu = False
            return False
        tried, self._tried_for_gpu = self._tried_for_gpu, True
        return not tried

    def _seconds_to_warm(self) -> float:
        """Return an estimate of how long the model still takes to load: as long as last time, else as long again."""
        passed = time.monotonic() - self.sightings.since if self.loading else 0.0
        if self.load_seconds is not None and self.load_seconds > passed:
            return self.load_seconds - passed
        return passed

    def _show(self, entry: Loaded | None) -> None:
        """Take the model, as listed, for what it is now."""
        self.entry = entry
        self._retry_seconds = 0.0
        found = [Residency.OTHER_NAME] if entry is None else self._findings(entry)
        self.sightings.detail = "" if entry is None else _described(entry)
        self.sightings.find(found)
        self.sightings.enter(found[0] if found else Residency.WARM)

    def _failed(self, error: ChatError) -> None:
        """The model cannot be looked after: no question shall wait for it."""
        self._forget()
        state = _STATE_OF.get(error.code, Residency.FAILING)
        self._retry_at = 0.0
        if state is Residency.FAILING:  # each try may start a process there that crashes
            self._retry_seconds = min(max(1.0, 2 * self._retry_seconds), _LONGEST_RETRY_SECONDS)
            self._retry_at = time.monotonic() + self._retry_seconds
        self.sightings.enter(state, str(error))

    def _forget(self) -> None:
        self.entry = None
        self._primed = False
        self.sightings.find([])


def _described(entry: Loaded) -> str:
    context = f", context {entry.context_tokens}" if entry.context_tokens else ""
    return f"{entry.gpu_share:.0%} on the GPU{context}"
