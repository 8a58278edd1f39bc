"""One model in Ollama's memory: found, loaded as it should be, and told to stay."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from satellite.engines.chat.cost import Cost
from satellite.engines.chat.giveway import GiveWay, TurnBegan
from satellite.engines.chat.ollama_api import OllamaApi
from satellite.engines.chat.pace import Pace
from satellite.engines.chat.residency import GpuMemory, Loaded, Residency, find, findings, likely_alias
from satellite.engines.chat.sightings import Sightings
from satellite.errors import ChatError

T = TypeVar("T")

_LOOK_SECONDS = 3.0
_LOAD_SECONDS = 300.0
"""Ollama's own limit for loading, OLLAMA_LOAD_TIMEOUT."""


class Resident:
    """What is known of the model, and what can be done for it. What goes wrong is raised as a `ChatError`."""

    def __init__(
        self, api: OllamaApi, cost: Cost, way: GiveWay, sightings: Sightings, *, interval_seconds: float
    ) -> None:
        self.pace = Pace()
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

        self._api = api
        self._cost = cost
        self._way = way
        self._sightings = sightings
        self._interval_seconds = interval_seconds
        self._gpu = GpuMemory()
        self._alias: str | None = None
        self._is_unlisted = False
        self._context_tokens: int | None = None
        """What the model has when it is loaded as we want it: less than was asked for where it allows no more."""

        self._had_others_context = False
        self._keep_alive_is_ignored = False

    async def look(self) -> list[Loaded]:
        """Return what is loaded."""
        return await self._cost.count("look", partial(self._api.loaded, _LOOK_SECONDS))

    async def keep(self, loaded: list[Loaded], *, is_doubtful: bool, is_used_next: bool) -> None:
        """Have the model loaded as it should be, given what is loaded; raises `TurnBegan`.

        A ping sees whether the model lives, if that `is_doubtful` or it is time for it and nothing else tells.
        """
        entry = find(loaded, self._api.model, self._alias)
        found = self._find(entry)
        foreign = Residency.FOREIGN_KEEP_ALIVE in found and not self._keep_alive_is_ignored
        if entry is None and not self._is_unlisted:
            self.entry = await self._loaded()
        elif entry is not None and not self._has_our_context(entry):
            self.entry = await self._loaded_with_our_context(entry)
        elif entry is not None and self._gpu.is_lost(entry):
            self.entry = await self._loaded_for_the_gpu()
        elif is_doubtful or foreign or (self._is_ping_due() and not is_used_next):
            self.entry = await self._pinged()
        else:
            self.entry = entry

    def show(self) -> None:
        """Take the model, as it was last listed, for what it is now."""
        found = self._find(self.entry)
        self._sightings.enter(found[0] if found else Residency.WARM, _described(self.entry))

    async def unload(self) -> None:
        """Let the model go; raises `TurnBegan`."""
        await self._way.unless_asked(partial(self._cost.count, "unload", self._api.unload))

    async def attended(self, call: Callable[[], Coroutine[Any, Any, T]], *, is_load: bool = False) -> T:
        """Await `call`, and look meanwhile whether Ollama is still there; raises `ChatError` when it is not.

        While it loads it may be too busy to say so.
        """
        self._had_others_context = False
        task = asyncio.create_task(call(), name="keep-alive request")
        try:
            while not task.done():
                await asyncio.wait([task], timeout=self._interval_seconds)
                if not task.done() and not self._way.is_busy:
                    await self._look_aside(is_load=is_load)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return task.result()

    def forget(self) -> None:
        """Take the model for not loaded."""
        self.entry = None
        self._is_unlisted = False
        self._sightings.find([])

    def _has_our_context(self, entry: Loaded) -> bool:
        return entry.context_tokens in (None, self._context_tokens or self._api.context_tokens)

    def _is_ping_due(self) -> bool:
        return time.monotonic() - max(self.contact_at, self._way.answered_at) >= self.pace.gap_seconds

    async def _loaded(self) -> Loaded | None:
        """Load the model, which is not listed; return it as it is listed then."""
        seconds = await self._load()
        now = await self._measured()
        if now is None:  # it runs under another name, unless another client unloaded it in the same moment
            seconds = await self._load()
            now = await self._measured(guess=True)
        self.loads += 1
        if now is not None and self._alias is None:
            self.load_seconds = seconds
            state = Residency.OTHER_CONTEXT if self._had_others_context else Residency.NOT_LOADED
            self._sightings.passed(state, f"{seconds:.1f} s to load it")
        return now

    async def _loaded_with_our_context(self, entry: Loaded) -> Loaded | None:
        """Have the model loaded anew, unless it allows no other context; return it as it is listed then."""
        was_known = self._context_tokens is not None
        seconds = await self._load()
        now = await self._measured()
        if now is None or now.context_tokens != entry.context_tokens:
            self._note_load(seconds)
            if not was_known:
                self._sightings.passed(Residency.OTHER_CONTEXT, "")
        return now or await self._loaded()

    async def _loaded_for_the_gpu(self) -> Loaded | None:
        """Unload the model and load it again; return it as it is listed then."""
        await self.unload()
        self._gpu.tried = True
        seconds = await self._load()
        self._note_load(seconds)
        return await self._measured() or await self._loaded()

    async def _pinged(self) -> Loaded | None:
        """Renew the keep-alive of a loaded model, and see whether it lives; return it as it is listed then."""
        began = time.monotonic()
        await self._way.unless_asked(partial(self.attended, self._ping), within_seconds=self.pace.slow_seconds)
        self.contact_at = time.monotonic()
        seconds = self.contact_at - began
        if self._had_others_context:
            self._note_load(seconds)
            self._sightings.passed(Residency.OTHER_CONTEXT, "")
        elif self.pace.took(seconds):
            self._note_load(seconds)
            self._sightings.passed(Residency.RUNNER_DIED, f"{seconds:.1f} s to load it again")
        now = await self._measured()
        return now if now is not None or self._is_unlisted else await self._loaded()

    async def _load(self) -> float:
        """Load the model; return how long it took. A load is never cut short: Ollama would abort it."""
        if self._way.is_busy:
            raise TurnBegan  # the question loads it
        if self._sightings.state not in (Residency.FAILING, Residency.MODEL_MISSING):  # those last until it is loaded
            self._sightings.enter(Residency.LOADING)
        self.loading, began = True, time.monotonic()
        try:
            await self.attended(self._ping, is_load=True)
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
        if entry is not None and not self._has_our_context(entry):
            self._had_others_context = True  # another client's answer goes on, and ours is loaded behind it

    async def _ping(self) -> None:
        await self._cost.count("ping", partial(self._api.load, _LOAD_SECONDS))

    async def _measured(self, *, guess: bool = False) -> Loaded | None:
        """Return the entry of the model that has just answered, and take it for the measure.

        With `guess`, under whatever name it may be listed, or not at all.
        """
        loaded = await self.look()
        if find(loaded, self._api.model, None) is not None:
            self._alias = None
        elif guess:
            self._alias = likely_alias(loaded, self._api.context_tokens)
        entry = find(loaded, self._api.model, self._alias)
        self._is_unlisted = entry is None and (guess or self._is_unlisted)
        if entry is not None and not self._has_our_context(entry):
            entry = await self._listed_again(entry)
        self._context_tokens = None if entry is None else entry.context_tokens
        self._keep_alive_is_ignored = Residency.FOREIGN_KEEP_ALIVE in self._find(entry)
        return entry

    async def _listed_again(self, entry: Loaded) -> Loaded | None:
        """Return the model as it is listed behind one more request, with a context that we did not ask for.

        It is the most that the model allows if it is the same again: else another client had loaded it between our
        request and the look.
        """
        seconds = await self._load()
        now = find(await self.look(), self._api.model, self._alias)
        if now is not None and now.context_tokens != entry.context_tokens:
            self._note_load(seconds)
            self._sightings.passed(Residency.OTHER_CONTEXT, "")
        return now

    def _find(self, entry: Loaded | None) -> list[Residency]:
        """Note and return what is not as it should be, the worst first."""
        unlisted = [Residency.OTHER_NAME] if self._is_unlisted else []
        found = unlisted if entry is None else findings(entry, self._api.model, self._context_tokens)
        self._sightings.find(found, _described(entry))
        return found

    def _note_load(self, seconds: float) -> None:
        self.loads += 1
        self.load_seconds = seconds


def _described(entry: Loaded | None) -> str:
    return "" if entry is None else entry.described
