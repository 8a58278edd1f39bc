"""What chat providers, and the choice between them, report of themselves."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from satellite.engines.protocols import ChatModel
from satellite.net.provider_states import TONES, Tone


@dataclass(frozen=True, slots=True)
class KeepAliveStatus:
    """An Ollama model as its keep-alive timer knows it."""

    state: str
    when: str
    """The schedule by which it is kept loaded, as a sentence."""

    seen: Mapping[str, int]
    """How often the model entered each state."""

    load_seconds: float | None
    """How long the last load took."""

    gpu_share: float | None
    """Part of the model that is on a GPU, 0 to 1."""

    context_tokens: int | None
    requests: Mapping[str, int]
    """Requests sent by the timer, by kind."""


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """One chat provider."""

    provider: str
    model: str
    state: str
    """A key of `satellite.net.provider_states.TONES`."""

    tone: Tone
    up: bool
    message: str
    """What an administrator should know of the state; may be empty."""

    since_seconds: float
    """How long it has been in `state`."""

    leaves_house: bool
    """Whether what people say is sent outside the house."""

    keepalive: KeepAliveStatus | None = None
    sent_outside: int | None = None
    """Questions sent to a hosted provider that left the house."""

    pending: int | None = None
    """Answers that the in-process model still has to give."""


@dataclass(frozen=True, slots=True)
class SwitchStatus:
    """The last change of the provider that answers."""

    at: str
    """ISO 8601, local time with its offset."""

    from_: str
    to: str
    reason: str


@dataclass(frozen=True, slots=True)
class ChatStatus:
    """All providers of the chat model, in the order in which they are asked."""

    answering: str
    switches: int
    """How often another provider answered than before."""

    last_switch: SwitchStatus | None
    providers: tuple[ProviderStatus, ...]
    message: str


class ChatProvider(ChatModel, Protocol):
    """A chat model that can be chosen among several."""

    @property
    def status(self) -> ProviderStatus:
        """Return its present state."""


def provider_status(
    model: ChatModel,
    *,
    keepalive: KeepAliveStatus | None = None,
    sent_outside: int | None = None,
    pending: int | None = None,
) -> ProviderStatus:
    """Return the state of `model`, with the figures that only some kinds of provider have."""
    health = model.health
    return ProviderStatus(
        provider=model.provider,
        model=model.model,
        state=health.state,
        tone=TONES[health.state],
        up=health.up,
        message=health.message,
        since_seconds=round(time.monotonic() - health.since, 1),
        leaves_house=model.leaves_house,
        keepalive=keepalive,
        sent_outside=sent_outside,
        pending=pending,
    )
