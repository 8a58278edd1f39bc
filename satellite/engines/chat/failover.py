"""Failover between chat providers: the first in the list that answers in time."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime

from satellite.config.chat import ChatSettings
from satellite.config.settings import DeadlineSettings
from satellite.engines.chat.provider_status import ChatProvider, ChatStatus, SwitchStatus
from satellite.engines.chat.race import Race
from satellite.engines.protocols import AS_CONFIGURED, ChatDelta, ChatModel, Message, Sampling
from satellite.errors import ChatError, ChatUnavailable
from satellite.net.provider_states import ProviderHealth
from satellite.tasks import Background

_LOGGER = logging.getLogger(__name__)

_USABLE = 0.95
"""Share of the deadline for the first word that providers may use; the rest is for the report that none had one."""


class FailoverChat:
    """A `ChatModel` made of several. After the first delta no other is asked, so that nothing is said twice.

    A provider that is known to be down is not asked, unless all are. One that has no word within
    `chat.first_token_seconds` (or `hedge_seconds`) is not given up: the next one is asked as well, the first to speak
    wins, and the others are stopped. A hosted provider is asked only when all local ones before it are down or have
    failed this question, unless `chat.hosted` allows it when they are slow.
    """

    def __init__(
        self,
        models: Sequence[ChatProvider],
        chat: ChatSettings,
        deadlines: DeadlineSettings,
        background: Background | None = None,
    ) -> None:
        """Choose between `models`, whose watchers run in the `background`."""
        self.provider = ", ".join(model.provider for model in models)
        self.model = ", ".join(model.model for model in models)
        self.context_tokens = models[0].context_tokens
        self.leaves_house = any(model.leaves_house for model in models)
        self.models = tuple(models)
        self.last_switch: SwitchStatus | None = None
        self.switches = 0
        self._waits_for_house = chat.hosted == "when_down"
        self._background = background or Background()
        self._patience_seconds = chat.hedge_seconds or chat.first_token_seconds
        self._first_token_seconds = deadlines.chat_first_token_seconds * _USABLE
        self._answering: ChatModel = next((model for model in models if not _is_absent(model.health)), models[0])

    @property
    def health(self) -> ProviderHealth:
        """Return the health of the provider that would be asked."""
        states = [model.health for model in self.models]
        up = [health for health in states if health.up]
        return next(iter(up + [health for health in states if health.is_late]), states[0])

    @property
    def status(self) -> ChatStatus:
        """Return the state of every provider, and the last switch between them."""
        return ChatStatus(
            answering=self._answering.provider,
            switches=self.switches,
            last_switch=self.last_switch,
            providers=tuple(model.status for model in self.models),
            message=self.health.message,
        )

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling = AS_CONFIGURED
    ) -> AsyncGenerator[ChatDelta, None]:
        """Yield one provider's answer; see `ChatModel`. Raises `ChatUnavailable` with all failures when none begins."""
        began = time.monotonic()
        asked, reasons, waits_for = self._to_ask()
        race = Race(asked, messages, sampling, self._patience_seconds, waits_for=waits_for)
        try:
            async with asyncio.timeout(self._first_token_seconds):
                started = await race.first()
        except TimeoutError:
            race.failures += [
                (model, ChatUnavailable(f"no word within {self._first_token_seconds:.3g} s", kind="timeout"))
                for model in race.running
            ]
            started = None
        finally:
            await race.stop()  # before the first word is passed on: the losers would compete for the GPU
        reasons |= {model: str(error) for model, error in race.failures}
        if started is None:
            raise _unanswered(reasons, race.failures)
        winner, deltas, first = started
        reason = self._record_answer(winner, reasons, race)
        first_token_seconds = time.monotonic() - began
        async with aclosing(deltas):
            yield _completed(first, first_token_seconds, reason)
            async for delta in deltas:
                yield _completed(delta, first_token_seconds, reason)

    def prepare(self, messages: Sequence[Message]) -> None:
        """Prepare the provider that would be asked, and those before it that are down."""
        for model in self.models:
            model.prepare(messages)
            if model.health.up:
                return

    async def warm_up(self) -> None:
        """Warm all up; logs why one cannot answer, and raises `ChatUnavailable` when none can."""
        results = await asyncio.gather(*(model.warm_up() for model in self.models), return_exceptions=True)
        failed: dict[ChatModel, str] = {}
        for model, result in zip(self.models, results, strict=True):
            if isinstance(result, ChatError):
                failed[model] = str(result)
                extra = {"stage": "chat", "code": result.code}
                _LOGGER.info("chat: %s does not answer yet [%s]: %s", model.provider, result.code, result, extra=extra)
            elif result is not None:
                raise result
        if len(failed) == len(self.models):
            raise _unanswered(failed, [])

    async def watch(self) -> None:
        """Run the watchers of all providers until cancelled; one that fails is restarted and does not affect others."""
        watchers = [self._background.run(f"watch {model.provider}", model.watch) for model in self.models]
        try:
            await asyncio.gather(*(watcher.task for watcher in watchers))
        finally:
            await asyncio.gather(*(watcher.stop() for watcher in watchers))

    async def close(self) -> None:
        """Close all providers; may be called twice."""
        await asyncio.gather(*(model.close() for model in self.models))

    def _to_ask(self) -> tuple[list[ChatModel], dict[ChatModel, str], dict[ChatModel, list[ChatModel]]]:
        """Return the providers to ask, why others are left out, and which wait for the failure of which.

        If none seems to be worth asking, all that may be asked are.
        """
        states: dict[ChatModel, ProviderHealth] = {model: model.health for model in self.models}
        alive = [model for model, health in states.items() if health.up]
        # Late ones after all that are up, whatever their place in the list: they would only delay the answer.
        alive += [model for model, health in states.items() if health.is_late]
        up = alive or [model for model, health in states.items() if not health.forbidden]
        down = {
            model: health.message
            for model, health in states.items()
            if not health.up and not (up and _is_absent(health))
        }
        for model in self.models:
            if model in down:
                model.prepare([])  # an unloaded model may come back only for a question
        local: list[ChatModel] = [model for model in self.models if model in alive and not model.leaves_house]
        waits_for: dict[ChatModel, list[ChatModel]] = {
            model: [other for other in local if self.models.index(other) < index]
            for index, model in enumerate(self.models)
            if model.leaves_house and self._waits_for_house
        }
        return up, down, waits_for

    def _record_answer(self, winner: ChatModel, reasons: dict[ChatModel, str], race: Race) -> str:
        """Return why the first provider does not answer; log it when another one answers than last time."""
        before = self.models[: self.models.index(winner)]
        known = race.silences() | reasons
        reason = "; ".join(f"{model.provider}: {known[model]}" for model in before if model in known)
        if winner is not self._answering:
            self.switches += 1
            why = reason or f"{winner.provider} is back"
            at = datetime.now().astimezone().isoformat(timespec="seconds")
            self.last_switch = SwitchStatus(at, self._answering.provider, winner.provider, why)
            level = logging.WARNING if reason else logging.INFO
            _LOGGER.log(level, "chat: switched from %s to %s: %s", self._answering.provider, winner.provider, why)
            self._answering = winner
        return reason


def _unanswered(reasons: dict[ChatModel, str], failures: Sequence[tuple[ChatModel, ChatError]]) -> ChatUnavailable:
    named = "; ".join(f"{model.provider}: {reason}" for model, reason in reasons.items())
    kind = failures[-1][1].code.removeprefix("chat-") if failures else "not-ready"
    return ChatUnavailable(f"no provider answers: {named}", kind=kind)


def _is_absent(health: ProviderHealth) -> bool:
    """Return whether a provider has no key, and so was never meant to be asked."""
    return health.forbidden and health.state == "no-key"


def _completed(delta: ChatDelta, first_token_seconds: float, reason: str) -> ChatDelta:
    """Return `delta` with figures that only the failover knows."""
    if delta.stats is None:
        return delta
    stats = replace(delta.stats, first_token_seconds=first_token_seconds, switch_reason=reason)
    return replace(delta, stats=stats)
