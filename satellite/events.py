"""What happens in a run, as events, and the bus that fans them out to whoever watches."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class RunEventType(StrEnum):
    """Home Assistant's names for the steps of a run, with `chat-*` for the model."""

    RUN_START = "run-start"
    WAKE_WORD_START = "wake_word-start"
    WAKE_WORD_END = "wake_word-end"
    STT_START = "stt-start"
    STT_VAD_START = "stt-vad-start"
    STT_VAD_END = "stt-vad-end"
    STT_END = "stt-end"
    CHAT_START = "chat-start"
    CHAT_DELTA = "chat-delta"
    CHAT_END = "chat-end"
    TTS_START = "tts-start"
    TTS_END = "tts-end"
    ERROR = "error"
    RUN_END = "run-end"


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One step of one run.

    What was done before the command was known to be over is told behind stt-vad-end, with the time when it was done.

    `at` is `time.monotonic()` in seconds. `data` by type: run-start {start, end, and the text where it starts at tts};
    wake_word-end {name}; stt-vad-end {silence_seconds, guesses}; stt-end {text, language, seconds}; chat-start {text};
    chat-delta {text}; chat-end {text, provider, and `ChatStats.described()`};
    tts-start {voice, rate, synthesis_seconds}; tts-end {audio_seconds}; error {stage, code, text}.
    """

    type: RunEventType
    run_id: str
    room: str
    data: dict[str, Any] = field(default_factory=dict)
    at: float = field(default_factory=time.monotonic)


def new_run_id() -> str:
    """Return an identifier that is unique among runs and fit for logs."""
    return uuid.uuid4().hex[:12]


class Subscription:
    """One watcher's bounded outbox; iterate it. A watcher that falls behind is dropped, never waited for."""

    def __init__(self, size: int) -> None:
        self._queue: asyncio.Queue[RunEvent | None] = asyncio.Queue(size)
        self.overflowed = False

    def offer(self, event: RunEvent) -> None:
        """Queue `event`; past the bound the subscription ends and `overflowed` is set."""
        if self.overflowed:
            return
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self.overflowed = True
            self._queue.get_nowait()  # room for the end marker
            self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[RunEvent]:
        """Yield events until the subscription overflows."""
        while (event := await self._queue.get()) is not None:
            yield event


class EventBus:
    """Fan-out of run events; `publish` never blocks and never fails."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()

    def publish(self, event: RunEvent) -> None:
        """Hand `event` to every subscription."""
        for subscription in self._subscriptions:
            subscription.offer(event)

    @contextmanager
    def subscribe(self, size: int = 256) -> Iterator[Subscription]:
        """Receive every event published inside the `with`, up to `size` unread ones."""
        subscription = Subscription(size)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
