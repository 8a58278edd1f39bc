"""The recent runs: the times of their stages, and their metrics."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from satellite.errors import Stage
from satellite.events import (
    ChatChunk,
    ChatEnd,
    ChatStart,
    RunBus,
    RunEnd,
    RunEvent,
    RunFailed,
    RunIdentity,
    RunStart,
    SttEnd,
    SttStart,
    SttVadEnd,
    SttVadStart,
    TtsEnd,
    TtsStart,
    WakeWordEnd,
    WakeWordStart,
)
from satellite.http import status_api
from satellite.http.error_codes import HttpError
from satellite.http.rate_limit import Work
from satellite.http.schemas import RunDescription
from satellite.monitoring.run_metrics import RunMetrics
from satellite.monitoring.runs import RunHistory
from satellite.tasks import Background
from tests.http_daemon import samples
from tests.waiting import PATIENCE_SECONDS

Events = list[tuple[type[RunEvent], float, dict[str, Any]]]

COMMAND: Events = [
    (RunStart, 0.0, {"start": Stage.WAKE, "end": Stage.TTS}),
    (WakeWordStart, 0.0, {}),
    (WakeWordEnd, 100.0, {"name": "okay_nabu", "seconds": 99.9}),
    (SttStart, 100.0, {}),
    (SttVadStart, 100.4, {}),
    (SttVadEnd, 102.5, {"silence_seconds": 0.5, "speculations": 2}),
    (SttEnd, 102.7, {"text": "what is the time", "language": "en", "seconds": 0.2}),
    (ChatStart, 102.7, {"text": "what is the time"}),
    (ChatChunk, 102.8, {"text": "It is "}),
    (ChatChunk, 102.9, {"text": "noon."}),
    (ChatEnd, 103.0, {"text": "It is noon.", "provider": "ollama", "figures": {"switch_reason": "groq: no key"}}),
    (TtsStart, 103.1, {"voice": "joe", "rate": 22050, "synthesis_seconds": 0.15}),
    (TtsEnd, 103.4, {"audio_seconds": 1.0}),
    (RunEnd, 103.5, {}),
]

FAILURE: Events = [
    (RunFailed, 104.0, {"stage": Stage.CHAT, "code": "chat-timeout", "text": "late"}),
    (RunEnd, 104.0, {}),
]


@asynccontextmanager
async def recorded(**settings: Any) -> AsyncIterator[tuple[RunBus, RunHistory]]:
    bus = RunBus()
    history = RunHistory(bus, **({"kept": 10, "transcripts": True} | settings))
    history.start(Background())
    await asyncio.sleep(0)
    try:
        yield bus, history
    finally:
        await history.stop()


async def happen(bus: RunBus, events: Events, run_id: str = "run") -> None:
    """Publish `events`, and let subscribers see them."""
    for type_, at, data in events:
        bus.publish(type_(RunIdentity(run_id, "kitchen"), at=at, **data))
    for _ in range(3):
        await asyncio.sleep(0)


async def described(events: Events) -> RunDescription:
    """Return the one run that `events` make, as the API describes it."""
    async with recorded() as (bus, history):
        await happen(bus, events)
        (run,) = history.latest(10)
    return RunDescription.model_validate(run.as_json())


def times(run: RunDescription) -> list[tuple[str, float, float | None]]:
    return [(stage.name, stage.start_ms, stage.end_ms) for stage in run.stages]


async def test_a_command_is_a_waterfall() -> None:
    run = await described(COMMAND)
    assert (run.total_ms, run.outcome, run.heard, run.said) == (3500, "done", "what is the time", "It is noon.")
    assert (run.provider, run.switch_reason) == ("ollama", "groq: no key")
    waterfall = [("wake", 0, 0), ("listen", 0, 2500), ("stt", 2500, 2700), ("chat", 2700, 3000), ("tts", 2950, 3400)]
    assert times(run) == waterfall
    marks = {"speech_end_ms": 2000, "command_end_ms": 2500, "first_token_ms": 2800, "first_audio_ms": 3100}
    assert run.marks == marks


async def test_speculative_work_before_the_end_of_the_command() -> None:
    earlier = {SttEnd: 102.3, ChatStart: 102.3, ChatChunk: 102.35, ChatEnd: 102.38, TtsStart: 102.45}
    run = await described([(type_, earlier.get(type_, at), data) for type_, at, data in COMMAND])
    waterfall = [("wake", 0, 0), ("listen", 0, 2500), ("stt", 2100, 2300), ("chat", 2300, 2380), ("tts", 2300, 3400)]
    assert times(run) == waterfall
    assert run.marks["first_audio_ms"] == run.marks["command_end_ms"] == 2500


@pytest.mark.parametrize(
    ("ending", "outcome"), [([], "running"), ([(RunEnd, 104.0, {"cancelled": True})], "cancelled"), (FAILURE, "error")]
)
async def test_how_a_run_ends(ending: Events, outcome: str) -> None:
    run = await described([*COMMAND[:9], *ending])
    assert (run.outcome, run.said) == (outcome, "It is ")
    assert times(run)[-1] == ("chat", 2700, 4000 if ending else None)
    assert (run.error is not None) is (outcome == "error")


async def test_waiting_for_a_wake_word_is_no_run() -> None:
    async with recorded() as (bus, history):
        await happen(bus, [*COMMAND[:2], (RunEnd, 5.0, {"cancelled": True})])
        assert history.latest(10) == []


async def test_watchers_are_notified_of_changes_alone() -> None:
    lengths: list[int] = []
    async with recorded() as (bus, history):
        unsubscribe = history.on_change(lambda run: lengths.append(len(run.said)))
        await happen(bus, [*COMMAND, (ChatChunk, 104.0, {"text": "more"})])
        unsubscribe()
        unsubscribe()
        await happen(bus, COMMAND, "another")
    assert lengths == sorted(lengths)
    assert lengths.count(6) == 1  # the first word, and not the second
    assert len(lengths) == len(COMMAND) - 3


async def test_only_the_latest_are_kept_and_without_texts_if_so_wanted() -> None:
    async with recorded(kept=2, transcripts=False) as (bus, history):
        for name in ("one", "two", "three"):
            await happen(bus, COMMAND, name)
        assert [run.id for run in history.latest(1)] == ["three"]
        runs = history.latest(10)
    assert [run.id for run in runs] == ["three", "two"]
    assert not any(run.heard or run.said for run in runs)
    assert not {"heard", "said"} & runs[0].as_json(transcripts=False).keys()


async def test_a_watcher_that_does_not_keep_up_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def now() -> dict[str, Any]:
        return {}

    monkeypatch.setattr(status_api, "_UNREAD", 4)
    monkeypatch.setattr(status_api, "as_json", lambda state: state)
    async with asyncio.timeout(PATIENCE_SECONDS), recorded() as (bus, history):
        context: Any = SimpleNamespace(runs=history, status=SimpleNamespace(now=now))
        async with aclosing(status_api._events(context)) as feed:
            assert b"status" in await anext(feed)
            await happen(bus, COMMAND)
            assert len([event async for event in feed]) == 3  # what waited, and no more
        assert history._watchers == []


async def test_no_more_clients_watch_than_may() -> None:
    context: Any = SimpleNamespace(watchers=Work(1, "somebody is watching already"))
    watching: Any = await status_api.events(context)
    with pytest.raises(HttpError, match="already", check=lambda error: error.code == "http-busy"):
        await status_api.events(context)
    watching.on_end()
    await status_api.events(context)


async def test_a_history_bounds_the_texts_that_it_keeps() -> None:
    long = "word " * 10_000
    run = await described(
        [
            (RunStart, 0.0, {"start": Stage.CHAT, "end": Stage.CHAT}),
            (ChatStart, 1.0, {"text": long}),
            (ChatEnd, 2.0, {"text": long, "provider": "a", "figures": {}}),
        ]
    )
    assert run.heard == run.said == long[:20_000]


async def test_a_burst_of_events_does_not_end_the_recording() -> None:
    async with recorded() as (bus, history):
        await happen(bus, [*COMMAND[:9], *[(ChatChunk, 103.0, {"text": "x"})] * 5000], "before")
        await happen(bus, COMMAND, "after")
        assert {run.id: run.outcome for run in history.latest(10)} == {"before": "cancelled", "after": "done"}


async def test_the_metrics_of_runs() -> None:
    metrics = RunMetrics()
    async with recorded() as (bus, history):
        history.on_change(metrics.note)
        await happen(bus, COMMAND)
        await happen(bus, [*COMMAND[:9], *FAILURE], "failed")
    expected = {
        ("runs_total", "done"): 1,
        ("runs_total", "error"): 1,
        ("errors_total", "chat-timeout"): 1,
        ("wake_detections_total", "okay_nabu"): 2,
        ("voice_to_voice_seconds_sum",): 1.1,
        ("first_token_seconds_count",): 2,
        ("stage_seconds_sum", "stt"): 0.4,
        ("stage_seconds_count", "tts"): 1,
        ("after_command_seconds_sum",): 0.6,
        ("speculations_total", "used"): 2,
        ("speculations_total", "dropped"): 2,
    }
    found = samples(metrics.exposition())
    assert {name: found[name] for name in expected} == pytest.approx(expected)
