"""Keeps one Ollama model loaded, on the GPU, with the beginning of the prompt read: the keep-alive timer.

A look is a `GET /api/ps`, which costs Ollama next to nothing. A ping is an empty chat request, which loads the model if
it is not loaded; it is sent when a look asks for it, and every few seconds, since Ollama goes on listing a runner that
has died. A prime has the model read the unchanging beginning of the prompt. None of them is sent while a question is
being answered, nor right after.
"""

import asyncio
import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial

from satellite.config.chat import KeepAliveSettings
from satellite.engines.chat.keepalive.intervals import Retry
from satellite.engines.chat.keepalive.loaded_models import AWAY, COLD, RESIDENT, Residency
from satellite.engines.chat.keepalive.model import Resident
from satellite.engines.chat.keepalive.priority import GiveWay, TurnBegan, begins
from satellite.engines.chat.keepalive.state_log import Sightings
from satellite.engines.chat.ollama_client import OllamaApi
from satellite.engines.chat.provider_health import Health
from satellite.engines.chat.schedule import Schedule
from satellite.engines.chat.status import KeepAliveStatus
from satellite.engines.protocols import Message
from satellite.errors import ChatError, ChatRejected, ChatUnavailable
from satellite.net.circuit_breaker import Breaker

_LOGGER = logging.getLogger(__name__)

_PRIME_SECONDS = 120.0
_ASIDE_SECONDS = 2.0
_IDLE_SECONDS = 300.0
"""When `keepalive.idle_interval_seconds` begins."""


class Keeper:
    """The keep-alive timer of one model; `run` it for as long as the model is in use."""

    def __init__(
        self,
        api: OllamaApi,
        settings: KeepAliveSettings,
        prefix: Sequence[Message],
        *,
        patience_seconds: float,
        deadline_seconds: float = math.inf,
    ) -> None:
        """Watch over the model of `api`; `prefix` is how every prompt begins.

        Within `patience_seconds` its first word is in time, within `deadline_seconds` worth waiting for.
        """
        self.breaker = Breaker()
        self.schedule = Schedule(settings)
        self.sightings = Sightings(api)
        self._api = api
        self._settings = settings
        self._prefix = list(prefix)
        self._patience_seconds = patience_seconds
        self._deadline_seconds = deadline_seconds
        self._way = GiveWay()
        self._model = Resident(api, self._way, self.sightings, interval_seconds=settings.interval_seconds)
        self._was_away = False
        self._retry = Retry()
        self._primed_load = -1
        """After which load the prompt's beginning was read."""

        self._was_resident = False
        """Whether the model was there when the last question came."""

        self._expected: list[Message] | None = None
        self._urgent = True
        self._poked = asyncio.Event()
        self._settled = asyncio.Event()

    # What the chat model asks and tells.

    @property
    def health(self) -> Health:
        """Return whether a question would be answered, and why not: what was seen, before what came of questions."""
        state, breaker = self.sightings.state, self.breaker
        if state in AWAY:
            return Health(state, False, self.sightings.words, since=self.sightings.since)
        is_late = breaker.cause == Residency.SLOW
        if state is Residency.LOADING or (state in COLD and (breaker.up or is_late)):
            seconds = self._seconds_to_warm()
            up = breaker.up and seconds <= self._patience_seconds
            is_late = not up and seconds <= self._deadline_seconds
            return Health(state, up, self.sightings.words, is_late=is_late, since=self.sightings.since)
        if not breaker.up:
            return Health(breaker.cause, False, breaker.reason, is_late=is_late, since=breaker.since)
        return Health(state, True, self.sightings.words, since=self.sightings.since)

    @property
    def is_resident(self) -> bool:
        """Whether the model was there when it was last looked for, so that nothing is being loaded."""
        return self.sightings.state in RESIDENT and not self._model.loading

    @property
    def is_cold(self) -> bool:
        """Whether the model has to be loaded, or is being loaded, before it answers."""
        return self._model.loading or self.sightings.state in COLD

    @property
    def status(self) -> KeepAliveStatus:
        """Return the state of the model, how often it came into which, and what was sent to look after it."""
        entry, load_seconds = self._model.entry, self._model.load_seconds
        return KeepAliveStatus(
            state=self.sightings.state,
            when=self.schedule.described(),
            seen={state.value: count for state, count in sorted(self.sightings.seen.items())},
            load_seconds=None if load_seconds is None else round(load_seconds, 2),
            gpu_share=None if entry is None else round(entry.gpu_share, 2),
            context_tokens=None if entry is None else entry.context_tokens,
            requests=dict(sorted(self._model.requests.items())),
        )

    @contextmanager
    def turn(self, messages: Sequence[Message]) -> Iterator[None]:
        """Stay out of the way while a question is being answered."""
        self._was_resident = self.is_resident
        if not self._was_resident:  # the question may load it, and says nothing of how long it is to stay
            self._model.is_to_stay = True
        if self._expected and begins(messages, _before_the_question(self._expected)):
            self._expected = None
        with self._way.turn(messages):
            yield

    def expect(self, messages: Sequence[Message]) -> None:
        """Be ready for a question that begins with `messages`, which may be empty, or end with its first words."""
        was_idle = self._is_idle
        self._way.used_at = time.monotonic()
        self._expected = list(messages) or self._expected
        if self.sightings.state not in RESIDENT:
            self._expected = self._expected or list(self._prefix)
        if self._expected or was_idle:
            self._poke()

    def answered(self, load_seconds: float | None) -> None:
        """Note an answer, and how long it says that the model took to load."""
        self.breaker.succeeded()
        self._retry.at_once()
        if load_seconds is not None and load_seconds > self._model.pace.slow_seconds and not self._model.loading:
            died = self._was_resident and self._settings.enabled
            self._model.answered_slowly(load_seconds, Residency.RUNNER_DIED if died else Residency.NOT_LOADED)
            self._poke()

    def late_seconds(self, began: float) -> float:
        """Return for how long a question that `began` then waits, and the model had nothing else to do.

        Another answer of ours, and a load that goes on, are no fault of the model's.
        """
        if self.is_cold or self._way.turns > 1:
            return 0.0
        return time.monotonic() - max(began, self._way.answered_at, self._model.contact_at)

    async def look_aside(self) -> None:
        """Look whether Ollama is there, beside a question that waits; raises `ChatError` when it is not.

        While it loads it may be too busy to say so.
        """
        try:
            await self._api.loaded(_ASIDE_SECONDS)
        except ChatError as error:
            if not (self.is_cold and Residency.after(error) is Residency.SILENT):
                raise

    def suspect(self, error: ChatError) -> None:
        """Note that a question failed: until a look, a ping and a prime succeed, none shall wait for this model."""
        self.breaker.failed(error)
        self._poke()

    async def settled(self) -> None:
        """Wait until it is known what is the matter with the model; raises `ChatUnavailable` when it cannot answer."""
        await self._settled.wait()
        health = self.health
        if not (health.up or health.is_late):
            raise ChatUnavailable(health.words, kind="not-ready")

    # The timer.

    async def run(self) -> None:
        """Look after the model until cancelled."""
        while True:
            await self._way.free()
            rested = time.monotonic() - self._way.used_at >= self._settings.interval_seconds
            if (rested or self._urgent) and self._is_wanted():
                self._urgent = False
                await self._tick()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_seconds()):
                    await self._poked.wait()
            self._poked.clear()

    @property
    def _is_idle(self) -> bool:
        """Whether nobody has spoken for a while."""
        return self._way.idle_seconds >= _IDLE_SECONDS

    def _interval_seconds(self) -> float:
        """Return how long until the next look."""
        idle = self._settings.idle_interval_seconds if self._is_idle and self.sightings.state in RESIDENT else None
        return idle or self._settings.interval_seconds

    def _poke(self) -> None:
        self._urgent = True
        self._poked.set()

    def _is_wanted(self) -> bool:
        """Switched off, the timer only begins, tells the model to stay, and brings back one that does not answer."""
        begins = not self._settled.is_set() or self._model.is_to_stay
        return self._settings.enabled or begins or not self.health.up

    async def _tick(self) -> None:
        try:
            if self._settings.enabled and not self.schedule.wants_warm(datetime.now(), self._way.idle_seconds):
                await self._release()
            else:
                await self._look()
        except TurnBegan:
            return
        except ChatError as error:
            self._failed(error)
        except Exception as bug:  # the timer's boundary: whatever broke one look, the next one comes
            level = logging.DEBUG if self.sightings.state is Residency.FAILING else logging.ERROR
            _LOGGER.log(level, "chat: looking after %s failed", self._api.model, exc_info=bug)
            self._failed(ChatUnavailable(f"{self._api.server} cannot be looked after: {bug!r}"))
        self._settled.set()

    async def _look(self) -> None:
        try:
            loaded = await self._model.look()
        except ChatError as error:
            self._retry.done()  # this says nothing of the model, and the server that comes back may be another one
            self._lost(error)
            return
        if self._retry.is_waiting:
            return
        is_needed = self.breaker.due or self._expected is not None
        if not await self._model.keep(loaded, is_doubtful=self._was_away or self.breaker.due, is_needed=is_needed):
            self._primed_load = -1
            self._model.show()
            return
        if not self._retry.seconds:  # else it has to prove itself first
            self._model.show()
        if self._was_away:
            self._was_away = False
            self.breaker.excuse()
        probing = self.breaker.due
        if probing or self._primed_load != self._model.loads or self._expected is not None:
            await self._prime()
        self._retry.done()
        self._model.show()
        if probing:
            self.breaker.probed(None)

    async def _prime(self) -> None:
        """Have the prompt's beginning read: with the room's history if a question is expected."""
        messages, self._expected = self._expected or self._prefix, None
        load = self._model.loads
        self._model.requests["prime"] += 1
        prime = partial(self._api.prime, messages, _PRIME_SECONDS)
        try:
            await self._way.unless_asked(partial(self._model.attended, prime), reading=messages)
        except ChatRejected as error:  # the model is there, and reads the first question whole
            _LOGGER.debug("%s does not read the beginning of a prompt: %s", self._api.server, error)
        else:
            self._model.contact_at = time.monotonic()
        self._primed_load = load

    async def _release(self) -> None:
        """Let the model go: it is not wanted warm now."""
        if self.sightings.state is Residency.RELEASED:
            return
        await self._model.unload()
        self._forget()
        self._retry.done()
        self.sightings.enter(Residency.RELEASED)

    def _failed(self, error: ChatError) -> None:
        """What was tried with the model has failed."""
        self._retry.failed(Residency.after(error))
        self._lost(error)

    def _lost(self, error: ChatError) -> None:
        """The model cannot be looked after: no question shall wait for it."""
        self._forget()
        self._was_away = True
        self.sightings.enter(Residency.after(error), str(error))

    def _forget(self) -> None:
        self._model.forget()
        self._primed_load = -1

    def _seconds_to_warm(self) -> float:
        """Return an estimate of how long the model still takes to load: as long as last time, else as long again."""
        loading = self.sightings.state is Residency.LOADING
        passed = time.monotonic() - self.sightings.since if loading else 0.0
        usual = self._model.load_seconds or 0.0
        return usual - passed if usual > passed else passed


def _before_the_question(messages: Sequence[Message]) -> Sequence[Message]:
    return messages[:-1] if messages[-1].role == "user" else messages
