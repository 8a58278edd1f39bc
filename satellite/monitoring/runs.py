"""The recent runs of all rooms and clients: what each heard and said, and where its time went."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta

from satellite.errors import Stage
from satellite.events import (
    ChatChunk,
    ChatEnd,
    ChatStart,
    RunBus,
    RunEnd,
    RunEvent,
    RunFailed,
    RunStart,
    SttEnd,
    SttResumed,
    SttStart,
    SttVadEnd,
    TtsEnd,
    TtsStart,
    WakeWordEnd,
)
from satellite.system.logs import log_words
from satellite.tasks import Background, Supervised

_LOGGER = logging.getLogger(__name__)

_UNREAD = 4096
"""Events between two turns of the event loop; a thousand rooms do not make as many."""

_LONGEST_TEXT = 20_000
"""Characters of what was heard or said that a history keeps."""

_LOGGED_RUNS = 256
"""Runs under way at once that are followed for the log."""

_LOGGED_STAGES = ("stt", "chat", "tts")

_BEGINS: dict[type[RunEvent], str] = {
    SttStart: "listen",
    SttResumed: "listen",
    SttEnd: "stt",
    ChatStart: "chat",
    TtsStart: "tts",
}
_ENDS: dict[type[RunEvent], str] = {SttVadEnd: "listen", SttEnd: "stt", ChatEnd: "chat", TtsEnd: "tts"}


@dataclass(slots=True)
class StageSpan:
    """When a stage of a run worked, seconds since the run began."""

    name: str
    start: float
    end: float | None = None


@dataclass(frozen=True, slots=True)
class RunProblem:
    """Why a run failed."""

    stage: str
    code: str
    text: str


@dataclass(slots=True)
class RunRecord:
    """One run: the times of its stages, and its outcome."""

    id: str
    room: str
    began_at: float
    """`time.monotonic()`."""

    began: datetime = field(init=False)
    outcome: str = "running"
    """`running`, `done`, `error` or `cancelled`."""

    total: float | None = None
    error: RunProblem | None = None
    wake_word: str = ""
    heard: str = ""
    said: str = ""
    provider: str | None = None
    switch_reason: str = ""
    spans: list[StageSpan] = field(default_factory=list)
    speculations: int = 0
    """Pauses that were taken for the end of the command, the true one included."""

    marks: dict[str, float] = field(default_factory=dict)
    """Moments, in seconds since the run began: `speech_end`, `command_end`, `first_token`, `first_audio`."""

    def __post_init__(self) -> None:
        # Now, not when it is shown: the monotonic clock stands still while the machine is suspended.
        self.began = datetime.now(UTC).astimezone() - timedelta(seconds=time.monotonic() - self.began_at)

    def update(self, event: RunEvent) -> bool:
        """Take over what an event reports; return whether watchers should know, unlike of every word of an answer."""
        at = event.at - self.began_at
        if stage := _BEGINS.get(type(event)):
            self.spans.append(StageSpan(stage, max(0.0, at - _took_seconds(event))))
        for span in self.spans:
            if span.name == _ENDS.get(type(event)) and span.end is None:
                span.end = at
        match event:
            case SttVadEnd():
                self.marks["speech_end"] = max(0.0, at - event.silence_seconds)
                self.marks["command_end"] = at
                self.speculations = event.speculations
            case SttResumed():
                # What follows describes the whole command.
                self.said, self.provider = "", None
                self.marks.clear()
                for span in self.spans[:-1]:
                    span.end = at if span.end is None else span.end
            case SttEnd() | ChatStart():
                self.heard = event.text
            case ChatChunk():
                self.said += event.text
                return self._mark_first("first_token", at)
            case ChatEnd():
                self.said = event.text
                self.provider = event.provider
                self.switch_reason = str(event.figures.get("switch_reason", ""))
            case TtsStart():
                # Speculative sound is made before the command has ended, but sent only then.
                self._mark_first("first_audio", max(at, self.marks.get("command_end", at)))
            case RunFailed():
                self.error = RunProblem(event.stage.value, event.code, event.text)
            case RunEnd():
                self.total = at
                self.outcome = "cancelled" if event.cancelled else "error" if self.error else "done"
                for span in self.spans:
                    span.end = at if span.end is None else span.end
        return True

    def _mark_first(self, mark: str, at: float) -> bool:
        """Set a mark unless it is set; return whether it was not."""
        is_first = mark not in self.marks
        self.marks.setdefault(mark, at)
        return is_first

    def as_json(self, *, transcripts: bool = True) -> dict[str, object]:
        """Return a `RunDescription` of the HTTP API, times in milliseconds; without `heard` and `said` if so wanted."""
        texts = {"heard": self.heard, "said": self.said} if transcripts else {}
        return {
            "id": self.id,
            "room": self.room,
            "began": self.began.isoformat(timespec="milliseconds"),
            "total_ms": _ms(self.total),
            "outcome": self.outcome,
            "error": None if self.error is None else asdict(self.error),
            **texts,
            "provider": self.provider,
            "switch_reason": self.switch_reason,
            "stages": [
                {"name": span.name, "start_ms": _ms(span.start), "end_ms": _ms(span.end)} for span in self.spans
            ],
            "marks": {f"{name}_ms": _ms(seconds) for name, seconds in self.marks.items()},
        }

    def seconds(self, stage: str) -> float | None:
        """Return how long a stage took; None for one that did not end."""
        spans = [span.end - span.start for span in self.spans if span.name == stage and span.end is not None]
        return sum(spans) if spans else None


class RunHistory:
    """Follows the event bus and keeps the latest runs. A run counts only once its wake word was heard."""

    def __init__(self, bus: RunBus, *, kept: int, transcripts: bool) -> None:
        """Keep `kept` runs, with what was heard and said if `transcripts`."""
        self._bus = bus
        self._kept = kept
        self._transcripts = transcripts
        self._runs: OrderedDict[str, RunRecord] = OrderedDict()
        self._task: Supervised | None = None
        self._watchers: list[Callable[[RunRecord], None]] = []

    def start(self, background: Background) -> None:
        """Begin to follow, as a task of `background`."""
        self._task = background.run("record runs", self._follow)

    async def stop(self) -> None:
        """Stop following; may be called twice."""
        if self._task is not None:
            await self._task.stop()

    def on_change(self, watcher: Callable[[RunRecord], None]) -> Callable[[], None]:
        """Call `watcher`, which must not block, when a run begins, changes or ends; return what ends that."""
        self._watchers.append(watcher)

        def unsubscribe() -> None:
            with suppress(ValueError):  # it may be called twice
                self._watchers.remove(watcher)

        return unsubscribe

    def latest(self, limit: int) -> list[RunRecord]:
        """Return the latest runs, the newest first."""
        return list(reversed(self._runs.values()))[:limit]

    async def _follow(self) -> None:
        while True:
            with self._bus.subscribe(_UNREAD) as events:
                async for event in events:
                    self._note(event)
            # The bus drops a subscriber that falls behind: the ends of the runs under way may be among what was lost.
            _LOGGER.warning("event queue overflowed; some runs were not recorded")
            for run in self._runs.values():
                if run.outcome == "running":
                    run.outcome = "cancelled"

    def _note(self, event: RunEvent) -> None:
        run = self._runs.get(event.run.run_id)
        if run is None:
            if isinstance(event, WakeWordEnd | RunStart) and not _waits_for_wake_word(event):
                self._begin(event)
            return
        if run.outcome == "running":
            is_news = run.update(event)
            kept = _LONGEST_TEXT if self._transcripts else 0
            run.heard, run.said = run.heard[:kept], run.said[:kept]
            if is_news:
                self._notify(run)

    def _begin(self, event: WakeWordEnd | RunStart) -> None:
        run = RunRecord(event.run.run_id, event.run.room, event.at)
        if isinstance(event, WakeWordEnd):
            run.wake_word = event.name
            run.spans.append(StageSpan("wake", 0.0, 0.0))
        elif self._transcripts:
            run.said = event.text[:_LONGEST_TEXT]
        # The oldest goes, even if it has not ended: whatever happens to a run, memory stays bounded.
        self._runs[run.id] = run
        while len(self._runs) > self._kept:
            self._runs.popitem(last=False)
        self._notify(run)

    def _notify(self, run: RunRecord) -> None:
        for watcher in list(self._watchers):  # a watcher may unsubscribe while it is called
            watcher(run)


def logged_runs(bus: RunBus) -> RunHistory:
    """Return a history, to be started and stopped, that logs each run of `bus` at its end; its texts at debug level."""
    history = RunHistory(bus, kept=_LOGGED_RUNS, transcripts=True)
    history.on_change(_log)
    return history


def _log(run: RunRecord) -> None:
    if run.outcome == "running":
        return
    times = [f"{stage} {1000 * seconds:.0f}" for stage in _LOGGED_STAGES if (seconds := run.seconds(stage)) is not None]
    milliseconds = round(1000 * (run.total or 0.0))
    code = run.error.code if run.error else None
    _LOGGER.info(
        "run %s in %s: %s in %d ms%s",
        run.id,
        run.room,
        f"[{code}]" if code else run.outcome,
        milliseconds,
        f" ({', '.join(times)})" if times else "",
        extra={"run": run.id, "room": run.room, "code": code, "ms": milliseconds},
    )
    if run.heard or run.said:
        log_words(f"run {run.id} in {run.room}", run.heard, run.said, run=run.id, room=run.room)


def _waits_for_wake_word(event: RunEvent) -> bool:
    return isinstance(event, RunStart) and event.start is Stage.WAKE


def _took_seconds(event: RunEvent) -> float:
    """Return how long ago the stage began: a transcript and the first sound are published once they are there."""
    match event:
        case SttEnd():
            return event.seconds
        case TtsStart():
            return event.synthesis_seconds
        case _:
            return 0.0


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 1)
