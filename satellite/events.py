"""The events of a run, one class each, and the bus that distributes them.

Their types are named like Home Assistant's pipeline events, with `chat-*` for the model.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Generic, TypeVar

from satellite.clock import monotonic
from satellite.errors import Stage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """Which run an event belongs to."""

    run_id: str
    room: str


def new_run_id() -> str:
    """Return an identifier that is unique among runs and fit for logs."""
    return uuid.uuid4().hex[:12]


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One step of one run.

    Speculative steps are published after `SttVadEnd`, with the times at which they were done: events arrive in the
    order of the stages, not of their times.
    """

    type: ClassVar[str]
    run: RunIdentity
    at: float = field(default_factory=monotonic, kw_only=True)
    """`time.monotonic()`, seconds."""


@dataclass(frozen=True, slots=True)
class RunStart(RunEvent):
    """A run begins; `text` is what it speaks if it starts at text to speech."""

    type: ClassVar[str] = "run-start"
    start: Stage
    end: Stage
    text: str = ""


@dataclass(frozen=True, slots=True)
class WakeWordStart(RunEvent):
    """The run waits for a wake word."""

    type: ClassVar[str] = "wake_word-start"


@dataclass(frozen=True, slots=True)
class WakeWordEnd(RunEvent):
    """A wake word was detected, `seconds` into the audio of the run."""

    type: ClassVar[str] = "wake_word-end"
    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SttStart(RunEvent):
    """The recording of a command begins."""

    type: ClassVar[str] = "stt-start"


@dataclass(frozen=True, slots=True)
class SttVadStart(RunEvent):
    """The command has begun."""

    type: ClassVar[str] = "stt-vad-start"


@dataclass(frozen=True, slots=True)
class SttVadEnd(RunEvent):
    """The command is over, after `silence_seconds`; `speculations` counts those begun in pauses."""

    type: ClassVar[str] = "stt-vad-end"
    silence_seconds: float
    speculations: int


@dataclass(frozen=True, slots=True)
class SttEnd(RunEvent):
    """The transcript; making it took `seconds`."""

    type: ClassVar[str] = "stt-end"
    text: str
    language: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SttResumed(RunEvent):
    """The speaker has gone on: everything since the last `SttVadEnd` is withdrawn, and a room stops sounding."""

    type: ClassVar[str] = "stt-resumed"


@dataclass(frozen=True, slots=True)
class ChatStart(RunEvent):
    """The question is handed to the responders and the chat model."""

    type: ClassVar[str] = "chat-start"
    text: str


@dataclass(frozen=True, slots=True)
class ChatChunk(RunEvent):
    """A piece of the answer."""

    type: ClassVar[str] = "chat-delta"
    text: str


@dataclass(frozen=True, slots=True)
class ChatEnd(RunEvent):
    """The whole answer, its provider, and its figures, see `ChatStats.described()`."""

    type: ClassVar[str] = "chat-end"
    text: str
    provider: str
    figures: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TtsStart(RunEvent):
    """The first sound is ready, at `rate` samples a second; making it took `synthesis_seconds`."""

    type: ClassVar[str] = "tts-start"
    voice: str
    rate: int
    synthesis_seconds: float


@dataclass(frozen=True, slots=True)
class TtsEnd(RunEvent):
    """All sound of the answer is ready."""

    type: ClassVar[str] = "tts-end"
    audio_seconds: float


@dataclass(frozen=True, slots=True)
class RunFailed(RunEvent):
    """A stage has failed; `code` is stable, `text` is for people."""

    type: ClassVar[str] = "error"
    stage: Stage
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class RunEnd(RunEvent):
    """The run is over; `cancelled` when its room has gone, or it was interrupted."""

    type: ClassVar[str] = "run-end"
    cancelled: bool = False


def as_json(event: RunEvent) -> dict[str, Any]:
    """Return `event` as the HTTP interface sends it: type, run, and the fields that differ from their defaults."""
    shown: dict[str, Any] = {"type": event.type, "run_id": event.run.run_id}
    for one in fields(event):
        value = getattr(event, one.name)
        if one.name not in ("run", "at", "figures") and value != one.default:
            shown[one.name] = value
    return shown | dict(event.figures) if isinstance(event, ChatEnd) else shown


class Subscription(Generic[T]):
    """One subscriber's bounded queue; iterate it. A subscriber that is too slow is dropped, never waited for."""

    def __init__(self, size: int, accepts: Callable[[T], bool] = lambda _: True) -> None:
        self._accepts = accepts
        self._queue: asyncio.Queue[T | None] = asyncio.Queue(size)
        self.overflowed = False

    def offer(self, event: T) -> None:
        """Queue `event` if it is wanted; past the bound the subscription ends and `overflowed` is set."""
        if self.overflowed or not self._accepts(event):
            return
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self.overflowed = True
            # The end marker takes the place of the oldest event: the subscriber has lost some anyway.
            self._queue.get_nowait()
            self._queue.put_nowait(None)

    async def next(self) -> T | None:
        """Return the next event, None once the subscription has overflowed."""
        return await self._queue.get()

    async def __aiter__(self) -> AsyncIterator[T]:
        """Yield events until the subscription overflows."""
        while (event := await self.next()) is not None:
            yield event


class EventBus(Generic[T]):
    """Distributes events of one type; `publish` never blocks and never fails."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription[T]] = set()

    def publish(self, event: T) -> None:
        """Hand `event` to every subscription."""
        # Subscribers are not called but queued for: a publisher, often a run, must not wait for them or fail.
        for subscription in self._subscriptions:
            subscription.offer(event)

    @contextmanager
    def subscribe(self, size: int = 256, *, accepts: Callable[[T], bool] = lambda _: True) -> Iterator[Subscription[T]]:
        """Receive every event published inside the `with` that `accepts` returns true for, up to `size` unread ones."""
        subscription = Subscription(size, accepts)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)


RunBus = EventBus[RunEvent]
