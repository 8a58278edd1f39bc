"""The keep-alive timer: keeps one Ollama model loaded, on the GPU, with the beginning of the prompt in its cache.

A look is a `GET /api/ps`, which costs Ollama next to nothing. A ping is an empty chat request, which loads the model if
it is not loaded. It is sent when a look shows the need, and every few seconds, since Ollama goes on listing a runner
that has died. A prime lets the model read the unchanging beginning of the prompt. None of them is sent while a question
is being answered, nor right after.
"""

import asyncio
import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import TypeVar

from satellite.backoff import Backoff
from satellite.config.chat import KeepAliveSettings
from satellite.engines.chat.keepalive.loaded_models import AWAY, COLD, LOADED, ModelState
from satellite.engines.chat.keepalive.model import ManagedModel, attended
from satellite.engines.chat.keepalive.priority import QuestionArrived, QuestionPriority
from satellite.engines.chat.keepalive.schedule import Schedule
from satellite.engines.chat.keepalive.state_log import StateLog
from satellite.engines.chat.ollama_client import OllamaApi
from satellite.engines.chat.provider_status import KeepAliveStatus
from satellite.engines.protocols import Message, starts_with
from satellite.errors import ChatError, ChatRejected, ChatUnavailable
from satellite.net.circuit_breaker import CircuitBreaker
from satellite.net.provider_states import ProviderHealth

T = TypeVar("T")

_LOGGER = logging.getLogger(__name__)

_ASIDE_SECONDS = 2.0
_IDLE_SECONDS = 300.0
"""Time without a question after which `keepalive.idle_interval_seconds` applies."""

_FIRST_RETRY_SECONDS = 1.0
_LONGEST_RETRY_SECONDS = {ModelState.FAILING: 30.0, ModelState.MODEL_MISSING: 2.0}
"""A load that fails may start a process that crashes each time; the others cost no more than a look."""


class KeepAliveTimer:
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
        """Watch over the model of `api`; every prompt starts with `prefix`.

        A first word is in time within `patience_seconds`, and worth waiting for within `deadline_seconds`.
        """
        self.breaker = CircuitBreaker()
        self.states = StateLog(api)
        self._schedule = Schedule(settings)
        self._api = api
        self._settings = settings
        self._prefix = list(prefix)
        self._patience_seconds = patience_seconds
        self._deadline_seconds = deadline_seconds
        self._priority = QuestionPriority()
        self._model = ManagedModel(api, self._priority, self.states, interval_seconds=settings.interval_seconds)
        self._was_away = False
        self._backoff = Backoff(_FIRST_RETRY_SECONDS, max(_LONGEST_RETRY_SECONDS.values()), jitter=False)
        self._retry_at = 0.0
        self._is_failing = False
        """Whether the last attempt failed, so that the model has to prove itself before it is shown as loaded."""

        self._primed_load = -1
        """The load after which the beginning of the prompt was read."""

        self._was_loaded = False
        """Whether the model was loaded when the last question came."""

        self._expected: list[Message] | None = None
        self._urgent = True
        self._poked = asyncio.Event()
        self._settled = asyncio.Event()

    # The interface of the chat model.

    @property
    def health(self) -> ProviderHealth:
        """Return whether a question would be answered; what the timer has seen counts before failed questions."""
        state, breaker = self.states.state, self.breaker
        if state in AWAY:
            return ProviderHealth(state, False, self.states.message, since=self.states.since)
        is_late = breaker.cause == ModelState.SLOW
        if state is ModelState.LOADING or (state in COLD and (breaker.up or is_late)):
            seconds = self._seconds_to_warm()
            up = breaker.up and seconds <= self._patience_seconds
            is_late = not up and seconds <= self._deadline_seconds
            return ProviderHealth(state, up, self.states.message, is_late=is_late, since=self.states.since)
        if not breaker.up:
            return ProviderHealth(breaker.cause, False, breaker.reason, is_late=is_late, since=breaker.since)
        return ProviderHealth(state, True, self.states.message, since=self.states.since)

    @property
    def is_cold(self) -> bool:
        """Whether the model must be loaded, or is being loaded, before it answers."""
        return self._model.loading or self.states.state in COLD

    @property
    def status(self) -> KeepAliveStatus:
        """Return the state of the model, how often it entered each, and how many requests the timer has sent."""
        entry, load_seconds = self._model.entry, self._model.load_seconds
        return KeepAliveStatus(
            state=self.states.state,
            when=self._schedule.described(),
            seen={state.value: count for state, count in sorted(self.states.seen.items())},
            load_seconds=None if load_seconds is None else round(load_seconds, 2),
            gpu_share=None if entry is None else round(entry.gpu_share, 2),
            context_tokens=None if entry is None else entry.context_tokens,
            requests=dict(sorted(self._model.requests.items())),
        )

    @contextmanager
    def question(self, messages: Sequence[Message]) -> Iterator[None]:
        """Send nothing while a question is being answered."""
        self._was_loaded = self.states.state in LOADED and not self._model.loading
        if not self._was_loaded:  # the question may load it, and names no keep-alive
            self._model.needs_keep_alive = True
        if self._expected and starts_with(messages, _before_the_question(self._expected)):
            self._expected = None
        with self._priority.question(messages):
            yield

    def expect(self, messages: Sequence[Message]) -> None:
        """Prepare for a question that starts with `messages`, which may be empty, or end with its first words."""
        was_idle = self._is_idle
        self._priority.used_at = time.monotonic()
        self._expected = list(messages) or self._expected
        if self.states.state not in LOADED:
            self._expected = self._expected or list(self._prefix)
        if self._expected or was_idle:
            self._poke()

    def answered(self, load_seconds: float | None) -> None:
        """Record an answer, and how long it reports that the model took to load."""
        self.breaker.succeeded()
        self._retry_at = 0.0
        if load_seconds is not None and load_seconds > self._model.timing.slow_seconds and not self._model.loading:
            died = self._was_loaded and self._settings.enabled
            self._model.answered_slowly(load_seconds, ModelState.RUNNER_DIED if died else ModelState.NOT_LOADED)
            self._poke()

    def late_seconds(self, began: float) -> float:
        """Return for how long a question that `began` then has waited while the model had nothing else to do.

        Another answer of ours, or a load in progress, is not the model's fault.
        """
        if self.is_cold or self._priority.questions > 1:
            return 0.0
        return time.monotonic() - max(began, self._priority.answered_at, self._model.contact_at)

    async def attended(self, task: asyncio.Task[T]) -> T:
        """Return the result of `task`, a waiting question; raises `ChatError` as soon as Ollama is found to be gone."""
        return await attended(task, self._look_meanwhile, self._patience_seconds)

    async def _look_meanwhile(self) -> None:
        try:
            await self._api.loaded(_ASIDE_SECONDS)
        except ChatError as error:
            # While it loads, Ollama may be too busy to answer.
            if not (self.is_cold and ModelState.after(error) is ModelState.SILENT):
                raise

    def failed(self, error: ChatError) -> None:
        """Record a failed question: until a look, a ping and a prime succeed, no question is to wait for this model."""
        self.breaker.failed(error)
        self._poke()

    async def settled(self) -> None:
        """Wait until the state of the model is known; raises `ChatUnavailable` when it cannot answer."""
        await self._settled.wait()
        health = self.health
        if not (health.up or health.is_late):
            raise ChatUnavailable(health.message, kind="not-ready")

    # The timer.

    async def run(self) -> None:
        """Keep the model warm until cancelled."""
        while True:
            await self._priority.until_idle()
            rested = time.monotonic() - self._priority.used_at >= self._settings.interval_seconds
            if (rested or self._urgent) and self._is_wanted():
                self._urgent = False
                await self._tick()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_seconds()):
                    await self._poked.wait()
            self._poked.clear()

    @property
    def _is_idle(self) -> bool:
        """Whether there was no question for a while."""
        return self._priority.idle_seconds >= _IDLE_SECONDS

    def _interval_seconds(self) -> float:
        """Return how long until the next look."""
        idle = self._settings.idle_interval_seconds if self._is_idle and self.states.state in LOADED else None
        return idle or self._settings.interval_seconds

    def _poke(self) -> None:
        self._urgent = True
        self._poked.set()

    def _is_wanted(self) -> bool:
        """Return whether to look now. Disabled, the timer only loads the model once, and again after a failure."""
        begins = not self._settled.is_set() or self._model.needs_keep_alive
        return self._settings.enabled or begins or not self.health.up

    async def _tick(self) -> None:
        try:
            if self._settings.enabled and not self._schedule.wants_warm(datetime.now(), self._priority.idle_seconds):
                await self._release()
            else:
                await self._look()
        except QuestionArrived:
            return
        except ChatError as error:
            self._attempt_failed(error)
        except Exception as bug:  # a bug in one look must not leave the model unattended, nor its state outdated
            level = logging.DEBUG if self.states.state is ModelState.FAILING else logging.ERROR
            _LOGGER.log(level, "chat: the keep-alive of %s failed", self._api.model, exc_info=bug)
            self._attempt_failed(ChatUnavailable(f"the keep-alive of {self._api.model} failed: {bug!r}"))
        self._settled.set()

    async def _look(self) -> None:
        try:
            loaded = await self._model.look()
        except ChatError as error:
            self._succeeded()  # no failure of the model, and the server that comes back may be a fixed one
            self._lost(error)
            return
        if time.monotonic() < self._retry_at:
            return
        is_needed = self.breaker.due or self._expected is not None
        if not await self._model.keep(loaded, is_doubtful=self._was_away or self.breaker.due, is_needed=is_needed):
            self._primed_load = -1
            self._model.show()
            return
        if not self._is_failing:
            self._model.show()
        if self._was_away:
            self._was_away = False
            self.breaker.outage_ended()
        probing = self.breaker.due
        if probing or self._primed_load != self._model.loads or self._expected is not None:
            await self._prime()
        self._succeeded()
        self._model.show()
        if probing:
            self.breaker.probe_succeeded()

    async def _prime(self) -> None:
        """Let the model read the beginning of the prompt, with the room's history if a question is expected."""
        messages, self._expected = self._expected or self._prefix, None
        load = self._model.loads
        self._model.requests["prime"] += 1
        prime = partial(self._model.attended, partial(self._api.prime, messages))
        try:
            await self._priority.interruptible(prime, reading=messages)
        except ChatRejected as error:  # the model is fine; it will read the first question from its beginning
            _LOGGER.debug("%s refuses to read the beginning of a prompt: %s", self._api.server, error)
        else:
            self._model.contact_at = time.monotonic()
        self._primed_load = load

    async def _release(self) -> None:
        """Unload the model: it is not wanted warm now."""
        if self.states.state is ModelState.RELEASED:
            return
        await self._model.unload()
        self._forget()
        self._succeeded()
        self.states.enter(ModelState.RELEASED)

    def _succeeded(self) -> None:
        self._backoff.reset()
        self._is_failing = False
        self._retry_at = 0.0

    def _attempt_failed(self, error: ChatError) -> None:
        wait = min(self._backoff.next(), _LONGEST_RETRY_SECONDS.get(ModelState.after(error), 0.0))
        self._is_failing = wait > 0
        if not self._is_failing:
            self._backoff.reset()
        self._retry_at = time.monotonic() + wait
        self._lost(error)

    def _lost(self, error: ChatError) -> None:
        """Show that the model cannot be used, so that no question waits for it."""
        self._forget()
        self._was_away = True
        self.states.enter(ModelState.after(error), str(error))

    def _forget(self) -> None:
        self._model.forget()
        self._primed_load = -1

    def _seconds_to_warm(self) -> float:
        """Estimate how long the model still takes to load: as long as last time, else as long again as until now."""
        loading = self.states.state is ModelState.LOADING
        passed = time.monotonic() - self.states.since if loading else 0.0
        usual = self._model.load_seconds or 0.0
        return usual - passed if usual > passed else passed


def _before_the_question(messages: Sequence[Message]) -> Sequence[Message]:
    return messages[:-1] if messages[-1].role == "user" else messages
