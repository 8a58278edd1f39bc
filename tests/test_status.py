"""The daemon's state as people, programs and Prometheus get it."""

import io
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from pydantic import TypeAdapter
from rich.console import Console

from satellite.cli import status_page
from satellite.monitoring import metrics
from satellite.monitoring.status import DaemonStatus, as_json
from satellite.skills.commands import CommandsStatus
from satellite.skills.home_assistant.agent import HomeAssistantStatus
from tests.http_daemon import samples
from tests.running_daemon import DATA

STATE: dict[str, Any] = json.loads((DATA / "status.json").read_text())
"""What `GET /status` returns, which clients rely on."""

# Fields that are renamed or dropped do not survive the way from JSON and back.
STATUS = replace(
    TypeAdapter(DaemonStatus).validate_json((DATA / "status.json").read_text().replace('"from":', '"from_":')),
    responders=(
        CommandsStatus("commands", "ready", True, "timers: 2 running", {"running": 2, "ringing": 0}, ("en",)),
        HomeAssistantStatus("home_assistant", "open", False, "Home Assistant [::1] cannot be reached", 5, 6, 7),
    ),
)


def shown(state: dict[str, Any]) -> str:
    text = io.StringIO()
    Console(file=text, width=200).print(status_page.page(state))
    return text.getvalue()


def test_the_wire_format_of_the_status_is_kept() -> None:
    assert json.loads(json.dumps(as_json(STATUS))) == STATE


def test_the_page_says_who_answers_and_why() -> None:
    page = shown({**STATE, **json.loads((DATA / "runs.json").read_text())})
    for text in (
        "degraded · up 2.0 h",
        "\nstage tts: voice [x] is missing\n  → satellite models pull configured\n",
        "voice x is missing; run: satellite models pull x",
        "Ollama at [::1] cannot be reached; is it running?",
        "→ groq",
        "cuda float16",
        "timers: 2 running",
        "Home Assistant [::1] cannot be reached",
        "outside this house; 4 questions sent",
        "last switch: 2026-11-23T22:05:00+00:00 from ollama to groq: no word [after]",
        "keep-alive of ollama: always; the last load took 1.5 s\n",
        "RTX 4090, 21 W, 50% busy, 1.0 of 16.0 GiB used",
    ):
        assert text in page
    assert re.search(r"kitchen +22:05:01 +done +1112 +2100 +245 +groq +ollama is silent", page)
    assert re.search(r"attic +22:04:01 +error +\[stt-no-speech\] nobody \[spoke\]", page)


def test_a_daemon_that_is_not_ready_says_so() -> None:
    page = shown({**STATE, "ready": False, "state": "loading", "attention": [], "gpus": [{}]})
    assert "loading · up 2.0 h" in page
    assert "GPU: a GPU" in page


def test_the_metrics_are_what_prometheus_reads() -> None:
    found = samples(metrics.exposition(STATUS, {"stt": 2}, 1.5))
    expected = {
        ("ready",): 1,
        ("queue_fill", "stt"): 2,
        ("dropped_audio_seconds_total",): 1.5,
        ("room_connected", "kitchen"): 1,
        ("event_loop_tasks",): 23,
        ("state", "degraded"): 1,
        ("attention",): 1,
        ("stage_ready", "tts"): 0,
        ("responder_up", "home_assistant"): 0,
        ("timers", "running"): 2,
        ("chat_provider_up", "ollama"): 0,
        ("chat_provider_state", "ollama", "unreachable"): 1,
        ("keepalive_seen_total", "ollama", "warm"): 2,
        ("keepalive_requests_total", "look", "ollama"): 10,
        ("chat_sent_outside_total", "groq"): 4,
        ("chat_switches_total",): 3,
        ("gpu_watts", "0"): 21.4,
        ("stt_decoded_total",): 7,
        ("stt_full_window_retries_total",): 1,
        ("stt_early_used_total",): 4,
        ("task_failing", "refresh"): 1,
        ("task_failures_total", "refresh"): 2,
    }
    assert {name: found[name] for name in expected} == expected
    assert "keepalive_gpu_share" not in {name for name, *_ in found}


@pytest.mark.parametrize(("sounding", "said"), [("media", "plays media"), ("timer", "a timer rings")])
def test_the_page_says_what_is_set_for_a_room(sounding: str, said: str) -> None:
    set_there = {"muted": True, "listen_only": True, "volume": 0.4, "sounding": sounding}
    rooms = [{**STATE["rooms"][0], "doing": "listening", **set_there}]
    assert f"listening, muted, only listens, volume 40 %, {said}" in shown({**STATE, "rooms": rooms})
