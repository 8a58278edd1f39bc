"""The daemon's state as people, programs and Prometheus get it."""

import io
import json
import re
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from satellite.cli import status_page
from satellite.engines.chat.provider_status import ChatStatus, KeepAliveStatus, ProviderStatus, SwitchStatus
from satellite.monitoring import metrics
from satellite.monitoring.attention import Attention, StageStatus
from satellite.monitoring.status import DaemonStatus, as_json
from satellite.net.provider_states import Tone
from satellite.rooms.room import Capabilities, LinkState, RoomStatus
from satellite.skills.commands import CommandsStatus
from satellite.skills.home_assistant.agent import HomeAssistantStatus
from satellite.system.nvidia import Gpu
from satellite.tasks import TaskStatus

STATE: dict[str, Any] = {
    "version": "1.2.3",
    "uptime_seconds": 7200.0,
    "ready": True,
    "state": "degraded",
    "attention": [{"what": "stage tts", "text": "voice [x] is missing", "cure": "satellite models pull configured"}],
    "stages": [
        {"stage": "stt", "state": "ready", "message": "", "device": "cuda float16", "tone": "good"},
        {
            "stage": "tts",
            "state": "failed",
            "message": "voice x is missing; run: satellite models pull x",
            "code": "model-missing",
            "tone": "bad",
        },
    ],
    "rooms": [
        {
            "room": "kitchen",
            "uri": "tcp://kitchen:10700",
            "area": None,
            "state": "connected",
            "message": "kitchen is connected",
            "doing": "listening",
            "since_seconds": 3.0,
            "reconnections": 1,
            "capabilities": {"speaker": True, "timers": True, "speech_interrupts": False},
            "tone": "good",
        }
    ],
    "chat": {
        "answering": "groq",
        "switches": 3,
        "last_switch": {"at": "2026-11-23T22:05:00+00:00", "from": "ollama", "to": "groq", "reason": "no word [after]"},
        "message": "answers",
        "providers": [
            {
                "provider": "ollama",
                "model": "phi3:mini",
                "state": "unreachable",
                "tone": "bad",
                "up": False,
                "message": "Ollama at [::1] cannot be reached; is it running?",
                "since_seconds": 90.0,
                "leaves_house": False,
                "keepalive": {
                    "state": "unreachable",
                    "when": "always",
                    "seen": {"warm": 2, "unreachable": 1},
                    "load_seconds": 1.5,
                    "gpu_share": None,
                    "context_tokens": None,
                    "requests": {"look": 10, "ping": 2},
                },
            },
            {
                "provider": "groq",
                "model": "llama",
                "state": "ready",
                "tone": "good",
                "up": True,
                "message": "answers",
                "since_seconds": 5.0,
                "leaves_house": True,
                "sent_outside": 4,
            },
        ],
    },
    "speech_to_text": {"decoded": 7, "full_window_retries": 1, "abandoned": 2, "early": 5, "early_used": 4},
    "responders": [
        {
            "responder": "commands",
            "state": "ready",
            "up": True,
            "message": "timers: 2 running",
            "timers": {"running": 2, "ringing": 0},
            "languages": ["en"],
            "tone": "good",
        },
        {
            "responder": "home_assistant",
            "state": "open",
            "up": False,
            "message": "Home Assistant [::1] cannot be reached",
            "answered": 5,
            "not_understood": 6,
            "failed": 7,
            "tone": "bad",
        },
    ],
    "background": [
        {"task": "refresh", "state": "failing", "message": "KeyError: 'x'", "failures": 2, "since_seconds": 4.0},
        {"task": "trim", "state": "running", "message": "", "failures": 1, "since_seconds": None},
    ],
    "event_loop_tasks": 23,
    "gpus": [{"name": "RTX 4090", "watts": 21.4, "load": 0.5, "memory_used_bytes": 2**30, "memory_total_bytes": 2**34}],
}
"""What `GET /status` returns, which clients rely on."""

RUNS: list[dict[str, Any]] = [
    {
        "room": "kitchen",
        "began": "2026-11-23T22:05:01.123+00:00",
        "outcome": "done",
        "error": None,
        "provider": "groq",
        "switch_reason": "ollama is silent",
        "stages": [
            {"name": "wake", "start_ms": 0.0, "end_ms": 0.0},
            {"name": "listen", "start_ms": 0.0, "end_ms": 2100.0},
            {"name": "stt", "start_ms": 2100.0, "end_ms": 2345.0},
            {"name": "tts", "start_ms": 2600.0, "end_ms": None},
        ],
        "marks": {"speech_end_ms": 1600.0, "first_audio_ms": 2712.0},
    },
    {
        "room": "attic",
        "began": "2026-11-23T22:04:01.123+00:00",
        "outcome": "error",
        "error": {"stage": "stt", "code": "stt-no-speech", "text": "nobody [spoke]"},
        "provider": None,
        "switch_reason": "",
        "stages": [],
        "marks": {},
    },
]

STATUS = DaemonStatus(
    version="1.2.3",
    uptime_seconds=7200.0,
    ready=True,
    state="degraded",
    attention=(Attention("stage tts", "voice [x] is missing", "satellite models pull configured"),),
    stages=(
        StageStatus("stt", "ready", "", device="cuda float16"),
        StageStatus("tts", "failed", "voice x is missing; run: satellite models pull x", code="model-missing"),
    ),
    rooms=(
        RoomStatus(
            "kitchen",
            "tcp://kitchen:10700",
            None,
            LinkState.CONNECTED,
            "kitchen is connected",
            "listening",
            3.0,
            1,
            Capabilities(timers=True),
        ),
    ),
    responders=(
        CommandsStatus("commands", "ready", True, "timers: 2 running", {"running": 2, "ringing": 0}, ("en",)),
        HomeAssistantStatus("home_assistant", "open", False, "Home Assistant [::1] cannot be reached", 5, 6, 7),
    ),
    speech_to_text={"decoded": 7, "full_window_retries": 1, "abandoned": 2, "early": 5, "early_used": 4},
    chat=ChatStatus(
        answering="groq",
        switches=3,
        last_switch=SwitchStatus("2026-11-23T22:05:00+00:00", "ollama", "groq", "no word [after]"),
        providers=(
            ProviderStatus(
                "ollama",
                "phi3:mini",
                "unreachable",
                Tone.BAD,
                False,
                "Ollama at [::1] cannot be reached; is it running?",
                90.0,
                leaves_house=False,
                keepalive=KeepAliveStatus(
                    "unreachable", "always", {"warm": 2, "unreachable": 1}, 1.5, None, None, {"look": 10, "ping": 2}
                ),
            ),
            ProviderStatus(
                "groq", "llama", "ready", Tone.GOOD, True, "answers", 5.0, leaves_house=True, sent_outside=4
            ),
        ),
        message="answers",
    ),
    background=(
        TaskStatus("refresh", "failing", "KeyError: 'x'", 2, 4.0),
        TaskStatus("trim", "running", "", 1, None),
    ),
    gpus=(Gpu("RTX 4090", 0.5, 2**30, 2**34, 21.4),),
    event_loop_tasks=23,
)


def shown(state: dict[str, Any]) -> str:
    """Return the page."""
    text = io.StringIO()
    Console(file=text, width=200).print(status_page.page(state))
    return text.getvalue()


def test_the_wire_format_of_the_status_is_kept() -> None:
    assert json.loads(json.dumps(as_json(STATUS))) == STATE


def test_the_page_says_who_answers_and_why() -> None:
    page = shown({**STATE, "runs": RUNS})
    assert "degraded · up 2.0 h" in page
    assert re.search(r"^stage tts: voice \[x\] is missing\n  → satellite models pull configured$", page, re.MULTILINE)
    assert "voice x is missing; run: satellite models pull x" in page
    assert "Ollama at [::1] cannot be reached; is it running?" in page
    assert "→ groq" in page
    assert "cuda float16" in page
    assert re.search(r"kitchen +22:05:01 +done +1112 +2100 +245 +groq +ollama is silent", page)
    assert re.search(r"attic +22:04:01 +error +\[stt-no-speech\] nobody \[spoke\]", page)
    assert "timers: 2 running" in page
    assert "Home Assistant [::1] cannot be reached" in page
    assert "outside this house; 4 questions sent" in page
    assert "last switch: 2026-11-23T22:05:00+00:00 from ollama to groq: no word [after]" in page
    assert "keep-alive of ollama: always; the last load took 1.5 s\n" in page
    assert "RTX 4090, 21 W, 50% busy, 1.0 of 16.0 GiB used" in page


def test_a_daemon_that_is_not_ready_says_so() -> None:
    page = shown({**STATE, "ready": False, "state": "loading", "attention": [], "gpus": [{}]})
    assert "loading · up 2.0 h" in page
    assert "GPU: a GPU" in page


def test_the_metrics_are_what_prometheus_reads() -> None:
    families = {
        family.name: family for family in text_string_to_metric_families(metrics.exposition(STATUS, {"stt": 2}, 1.5))
    }
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["satellite_ready",] == 1
    assert samples["satellite_queue_fill", "stt"] == 2
    assert samples["satellite_dropped_audio_seconds_total",] == 1.5
    assert samples["satellite_room_connected", "kitchen"] == 1
    assert samples["satellite_event_loop_tasks",] == 23
    assert samples["satellite_state", "degraded"] == 1
    assert samples["satellite_attention",] == 1
    assert samples["satellite_stage_ready", "tts"] == 0
    assert samples["satellite_responder_up", "home_assistant"] == 0
    assert samples["satellite_timers", "running"] == 2
    assert samples["satellite_chat_provider_up", "ollama"] == 0
    assert samples["satellite_chat_provider_state", "ollama", "unreachable"] == 1
    assert samples["satellite_keepalive_seen_total", "ollama", "warm"] == 2
    assert samples["satellite_keepalive_requests_total", "look", "ollama"] == 10
    assert samples["satellite_chat_sent_outside_total", "groq"] == 4
    assert samples["satellite_chat_switches_total",] == 3
    assert samples["satellite_gpu_watts", "0"] == 21.4
    assert samples["satellite_stt_decoded_total",] == 7
    assert samples["satellite_stt_full_window_retries_total",] == 1
    assert samples["satellite_stt_early_used_total",] == 4
    assert "satellite_keepalive_gpu_share" not in {name for name, *_ in samples}
