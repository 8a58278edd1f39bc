"""One model in Ollama's memory: found, loaded as it should be, and told to stay."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from satellite.engines.chat.context_length import ContextLength
from satellite.engines.chat.keepalive.intervals import Pace
from satellite.engines.chat.keepalive.loaded_models import GpuMemory, Loaded, Residency, find, findings, likely_alias
from satellite.engines.chat.keepalive.priority import GiveWay, TurnBegan
from satellite.engines.chat.keepalive.state_log import Sightings
from satellite.engines.chat.ollama_client import OllamaApi
from satellite.errors import ChatError
from satellite.system.nvidia import gpus
from satellite.tasks import begin_task, end_tasks, failure_of

T = TypeVar("T")

_LOOK_SECONDS = 3.0
_LOAD_SECONDS = 300.0
"""Ollama's own limit for loading, OLLAMA_LOAD_TIMEOUT."""

_UNKNOWN_LOAD_SECONDS = 3.0
_GRACE = 1.5
"""How many times as long as a load takes a model may be gone that another client may be loading differently."""

_SHORTEST_GRACE_SECONDS = 1.0
_LONGEST_GRACE_SECONDS = 30.0


class Resident:
    """What is known of the model, and what can be done for it. What goes wrong is raised as a `ChatError`."""

    def __init__(self, api: OllamaApi, way: GiveWay, sightings: Sightings, *, interval_seconds: float) -> None:
        self.pace = Pace()
        self.requests: Counter[str] = Counter()
        """What was sent to look after it, by kind."""

        self.entry: Loaded | None = None
        """The model as it was last listed."""

        self.loads = 0
        """How often it may have been loaded since it is watched; with each load it forgets what it has read."""

        self.load_seconds: float | None = None
        """How long the last load took."""

        self.loading = False
        """Whether a load of our own is under way."""

        self.contact_at = float("-inf")
        """When it was last known to live."""

        self.is_to_stay = False
        """Whether a request of ours may have loaded it that could not tell it to stay."""

        self._api = api
        self._way = way
        self._sightings = sightings
        self._interval_seconds = interval_seconds
        self._length = ContextLength(api)
        self._gpu = GpuMemory()
        self._has_gpu_here: bool | None = None
        """Whether Ollama runs on this machine, and that has a GPU of which it is known; None before it was asked."""

        self._alias: str | None = None
        self._is_unlisted = False
        self._missed_at: float | None = None
        """Since when it is gone that was there."""

        self._slow_answer: tuple[float, Residency] | None = None
        """How long an answer says that its model took to load, and what that would mean."""

        self._in_use_until: datetime | None = None
        """The end of its stay that did not move with a ping: somebody was using it."""

        self._had_shorter_context = False
        self._keep_alive_is_ignored = False

    async def look(self) -> list[Loaded]:
        """Return what is loaded."""
        self.requests["look"] += 1
        return await self._api.loaded(_LOOK_SECONDS)

    async def keep(self, loaded: list[Loaded], *, is_doubtful: bool, is_needed: bool) -> bool:
        """Have the model loaded as it should be, given what is loaded; raises `TurnBegan`.

        Returns whether a question would be answered without loading anything. What another client may be loading, or
        has loaded with less context than we want, is only loaded again when it `is_needed`: two that load it in turn
        would keep each other from being answered. A ping sees whether the model lives, if that `is_doubtful` or it is
        time for it and nothing else tells.
        """
        await self._length.learn(self.requests)
        if self._has_gpu_here is None:
            self._has_gpu_here = self._api.is_here and bool(await asyncio.to_thread(gpus))
        entry = find(loaded, self._api.model, self._alias)
        self._compare(entry)
        self._find(entry)
        if entry is None and not self._is_unlisted:
            if not (is_doubtful or is_needed) and self._may_come_back():
                self.entry = None
                return False
            self.entry = await self._loaded()
        elif entry is not None and not self._length.is_enough(entry):
            if not is_needed:
                self.entry = entry
                return False
            self.entry = await self._loaded_with_our_context()
        elif entry is not None and self._gpu.is_lost(entry):
            self.entry = await self._loaded_for_the_gpu()
        elif entry is not None and not entry.stays(_now()) and not self._keep_alive_is_ignored:
            self.entry = await self._told_to_stay(entry, is_doubtful=is_doubtful)
        elif is_doubtful or (self._is_ping_due() and not is_needed):
            self.entry = await self._pinged(entry)
        else:
            self.entry = entry
        return self.entry is None or self._length.is_enough(self.entry)

    def show(self) -> None:
        """Take the model, as it was last listed, for what it is now."""
        if self.entry is None and not self._is_unlisted:
            self._sightings.enter(Residency.UNLOADED)
            return
        found = self._find(self.entry)
        self._sightings.enter(found[0] if found else Residency.WARM, self._described(self.entry))

    def answered_slowly(self, seconds: float, state: Residency) -> None:
        """Note that a question says that it took so long to load the model, which would mean `state`.

        A busy machine is as slow: the next look tells, for who loads without saying how long it is to stay gets
        Ollama's default.
        """
        self._slow_answer = (seconds, state)
        self.is_to_stay = True

    async def unload(self) -> None:
        """Let the model go; raises `TurnBegan`."""
        self.requests["unload"] += 1
        await self._way.unless_asked(self._api.unload)

    async def attended(self, call: Callable[[], Coroutine[Any, Any, T]], *, is_load: bool = False) -> T:
        """Await `call`, and look meanwhile whether Ollama is still there; raises `ChatError` when it is not.

        While it loads it may be too busy to say so.
        """
        self._had_shorter_context = False
        task = begin_task(call(), "keep-alive request")
        try:
            while not task.done():
                await asyncio.wait([task], timeout=self._interval_seconds)
                if not task.done() and not self._way.is_busy:
                    await self._look_aside(is_load=is_load)
        finally:
            await end_tasks(task)
            if task.done():
                failure_of(task)  # raised below, unless something else went wrong in the same moment
        return task.result()

    def forget(self) -> None:
        """Take the model for not loaded."""
        self.entry = None
        self._missed_at = None
        self._is_unlisted = False
        self._length.forget()
        self._sightings.find([])

    def _compare(self, entry: Loaded | None) -> None:
        """Note what has become of the model since the last look."""
        before, self._missed_at = self.entry, self._missed_at if entry is None else None
        answer, self._slow_answer = self._slow_answer, None
        if entry is None:
            if before is not None:
                self._missed_at = time.monotonic()
            return
        self._length.take(entry)
        if before is not None and before.context_tokens != entry.context_tokens:
            self.loads += 1
        if entry.stays(_now()):
            self.is_to_stay = self._keep_alive_is_ignored = False
        elif answer is not None and (before is None or before.stays(_now())):
            self.load_seconds, state = answer
            self._sightings.passed(state, f"{self.load_seconds:.1f} s to load it again, in an answer")

    def _may_come_back(self) -> bool:
        """Tell whether the model has been gone for so short that another client may be loading it."""
        if self._missed_at is None:
            return False
        grace = _GRACE * (_UNKNOWN_LOAD_SECONDS if self.load_seconds is None else self.load_seconds)
        grace = min(max(grace, _SHORTEST_GRACE_SECONDS), _LONGEST_GRACE_SECONDS)
        return time.monotonic() - self._missed_at < grace

    def _is_ping_due(self) -> bool:
        return time.monotonic() - max(self.contact_at, self._way.answered_at) >= self.pace.gap_seconds

    async def _loaded(self) -> Loaded | None:
        """Load the model, which is not listed; return it as it is listed then."""
        self._length.take(None)
        seconds = await self._load()
        now = await self._measured()
        if now is None:  # it runs under another name, unless another client unloaded it in the same moment
            seconds = await self._load()
            now = await self._measured(guess=True)
        self.loads += 1
        if now is not None and self._alias is None:
            self.load_seconds = seconds
            state = Residency.OTHER_CONTEXT if self._had_shorter_context else Residency.NOT_LOADED
            self._sightings.passed(state, f"{seconds:.1f} s to load it")
        return now

    async def _loaded_with_our_context(self) -> Loaded | None:
        """Have the model loaded anew, with the context that we want; return it as it is listed then."""
        self._note_load(await self._load())
        return await self._measured() or await self._loaded()

    async def _loaded_for_the_gpu(self) -> Loaded | None:
        """Unload the model and load it again; return it as it is listed then."""
        await self.unload()
        self._gpu.tried = True
        self._note_load(await self._load())
        return await self._measured() or await self._loaded()

    async def _told_to_stay(self, entry: Loaded, *, is_doubtful: bool) -> Loaded | None:
        """Set the model's keep-alive right, unless somebody is using it; return it as it is listed then.

        Who uses it may be what Ollama waits for to make room for another model, and would then wait for ever. A ping
        starts the time of its stay anew, but only if nobody else is using it.
        """
        if entry.expires_at == self._in_use_until and not is_doubtful:
            return entry
        now = await self._pinged(entry)
        if now is None or now.stays(_now()):
            return now
        if now.expires_at == entry.expires_at:
            self._in_use_until = now.expires_at
            return now
        self.requests["ping"] += 1
        await self._way.unless_asked(partial(self.attended, partial(self._api.load, _LOAD_SECONDS)))
        now = await self._measured()
        self._keep_alive_is_ignored = now is not None and not now.stays(_now())
        self.is_to_stay = False
        return now

    async def _pinged(self, entry: Loaded | None) -> Loaded | None:
        """See whether the model lives that is listed as `entry`; return it as it is listed then."""
        began = time.monotonic()
        self.requests["ping"] += 1
        ping = partial(self._api.ping, _LOAD_SECONDS)
        await self._way.unless_asked(partial(self.attended, ping), within_seconds=self.pace.slow_seconds)
        self.contact_at = time.monotonic()
        seconds = self.contact_at - began
        is_slow = self.pace.took(seconds)
        now = await self._measured()
        if now is None and not self._is_unlisted:
            return await self._loaded()
        if is_slow:  # it may have been loaded, or the machine is busy
            self.loads += 1
        if is_slow and entry is not None and now is not None and entry.stays(_now()) and not now.stays(_now()):
            self.load_seconds = seconds
            self.is_to_stay = True  # what loads without a keep-alive gets the default
            self._sightings.passed(Residency.RUNNER_DIED, f"{seconds:.1f} s to load it again")
        return now

    async def _load(self) -> float:
        """Load the model; return how long it took. A load is never cut short: Ollama would abort it."""
        if self._way.is_busy:
            raise TurnBegan  # the question loads it
        if self._sightings.state not in (Residency.FAILING, Residency.MODEL_MISSING):  # those last until it is loaded
            self._sightings.enter(Residency.LOADING)
        self.requests["ping"] += 1
        self.loading, began = True, time.monotonic()
        try:
            await self.attended(partial(self._api.load, _LOAD_SECONDS), is_load=True)
        finally:
            self.loading = False
        self.contact_at = time.monotonic()
        return self.contact_at - began

    async def _look_aside(self, *, is_load: bool) -> None:
        try:
            entry = find(await self.look(), self._api.model, self._alias)
        except ChatError as error:
            if is_load and Residency.after(error) is Residency.SILENT:
                return
            raise
        if entry is not None and not self._length.is_enough(entry):
            self._had_shorter_context = True  # another client's answer goes on, and ours is loaded behind it

    async def _measured(self, *, guess: bool = False) -> Loaded | None:
        """Return the entry of the model that has just answered; with `guess`, under whatever name it may be listed."""
        loaded = await self.look()
        if find(loaded, self._api.model, None) is not None:
            self._alias = None
        elif guess:
            self._alias = likely_alias(loaded, self._api.context_tokens)
        entry = find(loaded, self._api.model, self._alias)
        self._is_unlisted = entry is None and (guess or self._is_unlisted)
        if entry is not None:
            self._length.take(entry)
        return entry

    def _find(self, entry: Loaded | None) -> list[Residency]:
        """Note and return what is not as it should be, the worst first."""
        unlisted = [Residency.OTHER_NAME] if self._is_unlisted else []
        expects_gpu = bool(self._has_gpu_here) or self._gpu.was_used
        least = self._length.least_tokens
        found = unlisted if entry is None else findings(entry, self._api.model, least, expects_gpu=expects_gpu)
        if self.is_to_stay and Residency.FOREIGN_KEEP_ALIVE in found:
            found.remove(Residency.FOREIGN_KEEP_ALIVE)
        self._sightings.find(found, self._described(entry))
        return found

    def _note_load(self, seconds: float) -> None:
        self.loads += 1
        self.load_seconds = seconds

    def _described(self, entry: Loaded | None) -> str:
        return "" if entry is None else entry.described + self._length.described(entry)


def _now() -> datetime:
    return datetime.now(UTC)
