"""One model in Ollama's memory: loaded as it should be, and kept there."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from satellite.engines.chat.keepalive.context_length import ContextLength
from satellite.engines.chat.keepalive.loaded_models import GpuShare, LoadedModel, ModelState, find, findings
from satellite.engines.chat.keepalive.priority import QuestionArrived, QuestionPriority
from satellite.engines.chat.keepalive.schedule import PingTiming
from satellite.engines.chat.keepalive.state_log import StateLog
from satellite.engines.chat.ollama_client import OllamaApi
from satellite.errors import ChatError
from satellite.system.nvidia import gpus
from satellite.tasks import begin_task, end_tasks, failure_of

T = TypeVar("T")

_LOOK_SECONDS = 3.0
_UNKNOWN_LOAD_SECONDS = 3.0
_GRACE = 1.5
"""How many times the duration of a load a model may be missing before it is loaded: another client may be loading it
with other options, and a second load would abort that one."""

_SHORTEST_GRACE_SECONDS = 1.0
_LONGEST_GRACE_SECONDS = 30.0


class ManagedModel:
    """What is known of the model, and the requests that correct its state. Failures are raised as a `ChatError`."""

    def __init__(
        self, api: OllamaApi, priority: QuestionPriority, states: StateLog, *, interval_seconds: float
    ) -> None:
        self.timing = PingTiming()
        self.requests: Counter[str] = Counter()
        """What the keep-alive timer has sent, by kind."""

        self.entry: LoadedModel | None = None
        """The model as it was last listed."""

        self.loads = 0
        """How often it may have been loaded since the start; each load loses the prompts that it has read."""

        self.load_seconds: float | None = None
        """How long the last load took."""

        self.loading = False
        """Whether a load of ours is under way."""

        self.contact_at = float("-inf")
        """When it last answered."""

        self.needs_keep_alive = False
        """Whether a request may have loaded it that could not set its keep-alive."""

        self._api = api
        self._priority = priority
        self._states = states
        self._interval_seconds = interval_seconds
        self._length = ContextLength(api)
        self._gpu = GpuShare()
        self._has_gpu_here: bool | None = None
        """Whether Ollama runs on this machine, and it has a GPU; None until it was checked."""

        self._unlisted_among: frozenset[str] | None = None
        """What was listed when the model answered without being listed itself: names that share a file share a runner,
        which is listed under the name that loaded it."""

        self._missed_at: float | None = None
        """When a model that was listed was first missing."""

        self._slow_answer: tuple[float, ModelState] | None = None
        """The load time that an answer reported, and the state that it would mean."""

        self._in_use_until: datetime | None = None
        """The expiry that did not move with a ping: another client was using the model."""

        self._had_shorter_context = False
        self._keep_alive_is_ignored = False

    async def look(self) -> list[LoadedModel]:
        """Return the models in memory."""
        self.requests["look"] += 1
        loaded = await self._api.loaded(_LOOK_SECONDS)
        if _names(loaded) != self._unlisted_among:
            self._unlisted_among = None
        return loaded

    async def keep(self, loaded: list[LoadedModel], *, is_doubtful: bool, is_needed: bool) -> bool:
        """Load the model or correct its state, given the models in memory; raises `QuestionArrived`.

        Returns whether a question would be answered without a load. A model that another client may be loading, or has
        loaded with a shorter context, is loaded again only when it `is_needed`: two clients that load it in turn would
        keep each other from being answered. A ping checks that the model is alive if that `is_doubtful`, or if a ping
        is due and nothing else will show it.
        """
        await self._length.learn(self.requests)
        if self._has_gpu_here is None:
            self._has_gpu_here = self._api.is_here and bool(await asyncio.to_thread(gpus))
        entry = find(loaded, self._api.model)
        self._compare(entry)
        self._check(entry)
        if entry is None and not self._is_unlisted:
            if not (is_doubtful or is_needed) and self._may_come_back():
                self.entry = None
                return False
            self.entry = await self._loaded()
        elif entry is not None and not self._length.suffices(entry):
            if not is_needed:
                self.entry = entry
                return False
            self.entry = await self._reloaded()
        elif entry is not None and self._gpu.is_lost(entry):
            await self.unload()
            self._gpu.tried = True
            self.entry = await self._reloaded()
        elif entry is not None and not entry.stays(_now()) and not self._keep_alive_is_ignored:
            self.entry = await self._with_keep_alive(entry, is_doubtful=is_doubtful)
        elif is_doubtful or (self._is_ping_due() and not is_needed):
            self.entry = await self._pinged(entry)
        else:
            self.entry = entry
        return self.entry is None or self._length.suffices(self.entry)

    def show(self) -> None:
        """Enter the state in which the model was last listed."""
        if self.entry is None and not self._is_unlisted:
            self._states.enter(ModelState.UNLOADED)
            return
        found = self._check(self.entry)
        self._states.enter(found[0] if found else ModelState.WARM, self._described(self.entry))

    def answered_slowly(self, seconds: float, state: ModelState) -> None:
        """Record that an answer reported such a load time, which would mean `state`.

        A busy machine reports the same. The next look decides: a request that loads the model without a keep-alive
        leaves it with Ollama's default.
        """
        self._slow_answer = (seconds, state)
        self.needs_keep_alive = True

    async def unload(self) -> None:
        """Unload the model; raises `QuestionArrived`."""
        self.requests["unload"] += 1
        await self._priority.interruptible(self._api.unload)

    async def attended(self, call: Callable[[], Coroutine[Any, Any, T]], *, is_load: bool = False) -> T:
        """Await `call`, and check meanwhile that Ollama is still there; raises `ChatError` when it is not."""
        self._had_shorter_context = False
        task = begin_task(call(), "keep-alive request")
        try:
            return await attended(task, partial(self._look_meanwhile, is_load=is_load), self._interval_seconds)
        finally:
            await end_tasks(task)
            if task.done():
                failure_of(task)  # raised above, unless a question came in the same moment, which is all that matters

    def forget(self) -> None:
        """Assume that the model is not loaded."""
        self.entry = None
        self._missed_at = None
        self._unlisted_among = None
        self._length.forget()
        self._states.found([])

    @property
    def _is_unlisted(self) -> bool:
        return self._unlisted_among is not None

    def _compare(self, entry: LoadedModel | None) -> None:
        """Record how the model has changed since the last look."""
        before, self._missed_at = self.entry, self._missed_at if entry is None else None
        answer, self._slow_answer = self._slow_answer, None
        if entry is None:
            if before is not None:
                self._missed_at = time.monotonic()
            return
        self._length.follow(entry)
        if before is not None and before.context_tokens != entry.context_tokens:
            self.loads += 1
        if entry.stays(_now()):
            self.needs_keep_alive = self._keep_alive_is_ignored = False
        elif answer is not None and (before is None or before.stays(_now())):
            self.load_seconds, state = answer
            self._states.record(state, f"{self.load_seconds:.1f} s to load it again, in an answer")

    def _may_come_back(self) -> bool:
        """Return whether the model is missing for so short a time that another client may be loading it."""
        if self._missed_at is None:
            return False
        grace = _GRACE * (_UNKNOWN_LOAD_SECONDS if self.load_seconds is None else self.load_seconds)
        grace = min(max(grace, _SHORTEST_GRACE_SECONDS), _LONGEST_GRACE_SECONDS)
        return time.monotonic() - self._missed_at < grace

    def _is_ping_due(self) -> bool:
        return time.monotonic() - max(self.contact_at, self._priority.answered_at) >= self.timing.gap_seconds

    async def _loaded(self) -> LoadedModel | None:
        """Load the model, which is not listed; return its entry then."""
        self._length.follow(None)
        seconds = await self._load()
        entry = await self._listed()
        if entry is None:  # it runs under another name, unless another client unloaded it in the same moment
            seconds = await self._load()
            loaded = await self.look()
            entry = self._followed(find(loaded, self._api.model))
            self._unlisted_among = _names(loaded) if entry is None else None
        self.loads += 1
        if entry is not None:
            self.load_seconds = seconds
            state = ModelState.OTHER_CONTEXT if self._had_shorter_context else ModelState.NOT_LOADED
            self._states.record(state, f"{seconds:.1f} s to load it")
        return entry

    async def _reloaded(self) -> LoadedModel | None:
        """Load the model again, with the context length of requests; return its new entry."""
        self.load_seconds = await self._load()
        self.loads += 1
        return await self._listed() or await self._loaded()

    async def _with_keep_alive(self, entry: LoadedModel, *, is_doubtful: bool) -> LoadedModel | None:
        """Set the model's keep-alive, unless another client is using it; return its entry then.

        To make room for another model, Ollama sets a keep-alive of 0 and waits for the answer in progress. A request
        with a keep-alive of its own would revert that, and the other model would never be loaded. A ping restarts the
        keep-alive only of a model that is not in use, which tells the two apart.
        """
        if entry.expires_at == self._in_use_until and not is_doubtful:
            return entry
        pinged = await self._pinged(entry)
        if pinged is None or pinged.stays(_now()):
            return pinged
        if pinged.expires_at == entry.expires_at:
            self._in_use_until = pinged.expires_at
            return pinged
        self.requests["ping"] += 1
        await self._priority.interruptible(partial(self.attended, self._api.load))
        kept = await self._listed()
        self._keep_alive_is_ignored = kept is not None and not kept.stays(_now())
        self.needs_keep_alive = False
        return kept

    async def _pinged(self, entry: LoadedModel | None) -> LoadedModel | None:
        """Check that the model that is listed as `entry` is alive; return its entry then."""
        began = time.monotonic()
        self.requests["ping"] += 1
        ping = partial(self.attended, self._api.ping)
        # Beyond `slow_seconds` the ping is loading the model, and Ollama would abort the load with it.
        await self._priority.interruptible(ping, within_seconds=self.timing.slow_seconds)
        self.contact_at = time.monotonic()
        seconds = self.contact_at - began
        is_slow = self.timing.took(seconds)
        now = await self._listed()
        if now is None and not self._is_unlisted:
            return await self._loaded()
        if is_slow:  # it may have been loaded, or the machine is busy
            self.loads += 1
        if is_slow and entry is not None and now is not None and entry.stays(_now()) and not now.stays(_now()):
            self.load_seconds = seconds
            self.needs_keep_alive = True  # a load without a keep-alive leaves it with Ollama's default
            self._states.record(ModelState.RUNNER_DIED, f"{seconds:.1f} s to load it again")
        return now

    async def _load(self) -> float:
        """Load the model; return how long it took. A load is never cancelled: Ollama would abort it."""
        if self._priority.is_busy:
            raise QuestionArrived  # the question loads it
        if self._states.state not in (ModelState.FAILING, ModelState.MODEL_MISSING):  # those last until it is loaded
            self._states.enter(ModelState.LOADING)
        self.requests["ping"] += 1
        self.loading, began = True, time.monotonic()
        try:
            await self.attended(self._api.load, is_load=True)
        finally:
            self.loading = False
        self.contact_at = time.monotonic()
        return self.contact_at - began

    async def _look_meanwhile(self, *, is_load: bool) -> None:
        if self._priority.is_busy:
            return
        try:
            entry = find(await self.look(), self._api.model)
        except ChatError as error:
            if is_load and ModelState.after(error) is ModelState.SILENT:
                return  # while it loads, Ollama may be too busy to answer
            raise
        if entry is not None and not self._length.suffices(entry):
            self._had_shorter_context = True  # another client's answer goes on, and our load waits for its end

    async def _listed(self) -> LoadedModel | None:
        """Return the entry of the model, which has just answered."""
        return self._followed(find(await self.look(), self._api.model))

    def _followed(self, entry: LoadedModel | None) -> LoadedModel | None:
        if entry is not None:
            self._length.follow(entry)
        return entry

    def _check(self, entry: LoadedModel | None) -> list[ModelState]:
        """Record and return what is wrong, the worst first."""
        found = [ModelState.OTHER_NAME] if self._is_unlisted else []
        if entry is not None:
            expects_gpu = bool(self._has_gpu_here) or self._gpu.was_used
            found = findings(entry, self._length.least_tokens, expects_gpu=expects_gpu)
        if self.needs_keep_alive and ModelState.FOREIGN_KEEP_ALIVE in found:
            found.remove(ModelState.FOREIGN_KEEP_ALIVE)  # a request of ours has set it, not another client
        self._states.found(found, self._described(entry))
        return found

    def _described(self, entry: LoadedModel | None) -> str:
        return "" if entry is None else entry.described + self._length.described(entry)


async def attended(task: asyncio.Task[T], look: Callable[[], Coroutine[Any, Any, None]], interval_seconds: float) -> T:
    """Return the result of `task`; `look`, every so often while it takes, raises `ChatError` if Ollama is gone."""
    while not task.done():
        await asyncio.wait([task], timeout=interval_seconds)
        if task.done():
            break
        check = begin_task(look(), "look meanwhile")
        try:
            # A slow look must not delay what it looks after.
            await asyncio.wait([task, check], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                check.result()
        finally:
            await end_tasks(check)
            if check.done():
                failure_of(check)  # no longer of interest if the task is done as well
    return task.result()


def _names(loaded: Sequence[LoadedModel]) -> frozenset[str]:
    return frozenset(entry.name for entry in loaded)


def _now() -> datetime:
    return datetime.now(UTC)
