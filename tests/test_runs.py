"""The recent runs: what the event bus tells, as a waterfall and as metrics."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

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
from satellite.monitoring.run_metrics import RunMetrics
from satellite.monitoring.runs import RunHistory, RunRecord
from satellite.tasks import Background

COMMAND: list[tuple[type[RunEvent], float, dict[str, Any]]] = [
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

FAILURE = (RunFailed, 104.0, {"stage": Stage.CHAT, "code": "chat-timeout", "text": "late"})


@asynccontextmanager
async def recorded(bus: RunBus, **settings: Any) -> AsyncIterator[RunHistory]:
    """Follow `bus`."""
    recorder = RunHistory(bus, **({"kept": 10, "transcripts": True} | settings))
    recorder.start(Background())
    await asyncio.sleep(0)
    try:
        yield recorder
    finally:
        await recorder.stop()


async def happen(bus: RunBus, events: list[tuple[type[RunEvent], float, dict[str, Any]]], run_id: str = "run") -> None:
    """Publish `events`, and let those who follow see them."""
    for type_, at, data in events:
        bus.publish(type_(RunIdentity(run_id, "kitchen"), at=at, **data))
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_command_is_a_waterfall() -> None:
    """It begins with the wake word; every stage has its place, and what was heard and said is with it."""
    bus = RunBus()
    async with recorded(bus) as recorder:
        await happen(bus, COMMAND)
        (run,) = recorder.latest(10)
    told = run.described()
    assert told["total_ms"] == 3500
    assert told["outcome"] == "done"
    assert (told["heard"], told["said"]) == ("what is the time", "It is noon.")
    assert (told["provider"], told["switch_reason"]) == ("ollama", "groq: no key")
    assert [(s["name"], s["start_ms"], s["end_ms"]) for s in told["stages"]] == [
        ("wake", 0, 0),
        ("listen", 0, 2500),
        ("stt", 2500, 2700),
        ("chat", 2700, 3000),
        ("tts", 2950, 3400),
    ]
    assert told["marks"] == {
        "speech_end_ms": 2000,
        "command_end_ms": 2500,
        "first_token_ms": 2800,
        "first_audio_ms": 3100,
    }


async def test_waiting_for_a_wake_word_is_no_run() -> None:
    """A room that listens all day is not listed."""
    bus = RunBus()
    async with recorded(bus) as recorder:
        await happen(bus, COMMAND[:2])
        await happen(bus, [(RunEnd, 5.0, {"cancelled": True})])
        assert recorder.latest(10) == []


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [
        ([], "running"),
        ([(RunEnd, 104.0, {"cancelled": True})], "cancelled"),
        (
            [(RunFailed, 104.0, {"stage": Stage.CHAT, "code": "chat-timeout", "text": "late"}), (RunEnd, 104.0, {})],
            "error",
        ),
    ],
)
async def test_how_a_run_ends(ending: list[tuple[type[RunEvent], float, dict[str, Any]]], outcome: str) -> None:
    """Its last stage ends with it; an error is told."""
    bus = RunBus()
    async with recorded(bus) as recorder:
        await happen(bus, COMMAND[:9])
        await happen(bus, ending)
        (run,) = recorder.latest(10)
    told = run.described()
    assert told["outcome"] == outcome
    assert told["said"] == "It is "
    assert told["stages"][-1] == {"name": "chat", "start_ms": 2700, "end_ms": 4000 if ending else None}
    assert (told["error"] is not None) is (outcome == "error")


async def test_watchers_are_told_of_changes_alone() -> None:
    """Not of every word."""
    bus = RunBus()
    told: list[int] = []
    async with recorded(bus) as recorder:
        forget = recorder.on_change(lambda run: told.append(len(run.said)))
        await happen(bus, COMMAND)
        await happen(bus, [(ChatChunk, 104.0, {"text": "more"})])
        forget()
        forget()
        await happen(bus, COMMAND, "another")
    told = told
    assert told == sorted(told)
    assert told.count(6) == 1  # the first word, and not the second
    assert len(told) == len(COMMAND) - 3


async def test_only_the_latest_are_kept_and_without_words_if_so_wished() -> None:
    """The newest first."""

    async def scenario() -> list[RunRecord]:
        bus = RunBus()
        async with recorded(bus, kept=2, transcripts=False) as recorder:
            for name in ("one", "two", "three"):
                await happen(bus, COMMAND, name)
            assert [run.id for run in recorder.latest(1)] == ["three"]
            return recorder.latest(10)

    runs = await scenario()
    assert [run.id for run in runs] == ["three", "two"]
    assert not any(run.heard or run.said for run in runs)


async def test_more_than_can_be_followed_ends_no_recording() -> None:
    """A burst loses its runs; those after it are recorded."""
    bus = RunBus()
    async with recorded(bus) as recorder:
        await happen(bus, COMMAND[:9], "before")
        await happen(bus, [(ChatChunk, 103.0, {"text": "x"})] * 5000, "before")
        await happen(bus, COMMAND, "after")
        runs = {run.id: run.outcome for run in recorder.latest(10)}
    assert runs == {"before": "cancelled", "after": "done"}


async def test_the_metrics_of_runs() -> None:
    """How they ended, how long their stages took, and how long a person waited."""
    bus = RunBus()
    metrics = RunMetrics()
    async with recorded(bus) as recorder:
        recorder.on_change(metrics.note)
        await happen(bus, COMMAND)
        await happen(bus, [*COMMAND[:9], FAILURE, (RunEnd, 104.0, {})], "failed")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.exposition())
        for sample in family.samples
    }
    assert samples["satellite_runs_total", "done"] == 1
    assert samples["satellite_runs_total", "error"] == 1
    assert samples["satellite_errors_total", "chat-timeout"] == 1
    assert samples["satellite_wake_detections_total", "okay_nabu"] == 2
    assert samples["satellite_voice_to_voice_seconds_sum",] == pytest.approx(1.1)
    assert samples["satellite_first_token_seconds_count",] == 2
    assert samples["satellite_stage_seconds_sum", "stt"] == pytest.approx(0.4)
    assert samples["satellite_stage_seconds_count", "tts"] == 1
    assert samples["satellite_after_command_seconds_sum",] == pytest.approx(0.6)
    assert samples["satellite_speculations_total", "used"] == 2
    assert samples["satellite_speculations_total", "dropped"] == 2


async def test_what_was_made_before_the_end_of_the_command_was_known() -> None:
    """Its place is where it was made; its sound leaves when the command is over."""
    bus = RunBus()
    async with recorded(bus) as recorder:
        earlier = {
            SttEnd: 102.3,
            ChatStart: 102.3,
            ChatChunk: 102.35,
            ChatEnd: 102.38,
            TtsStart: 102.45,
        }
        await happen(bus, [(type_, earlier.get(type_, at), data) for type_, at, data in COMMAND])
        (run,) = recorder.latest(10)
    told = run.described()
    assert [(s["name"], s["start_ms"], s["end_ms"]) for s in told["stages"]] == [
        ("wake", 0, 0),
        ("listen", 0, 2500),
        ("stt", 2100, 2300),
        ("chat", 2300, 2380),
        ("tts", 2300, 3400),
    ]
    assert told["marks"]["first_audio_ms"] == told["marks"]["command_end_ms"] == 2500
