"""The daemon's state as people, programs and Prometheus get it."""

import io
import re
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from satellite.cli import status_page
from satellite.monitoring import metrics

STATE: dict[str, Any] = {
    "version": "1.2.3",
    "uptime_seconds": 7200.0,
    "ready": True,
    "state": "degraded",
    "attention": [{"what": "stage tts", "text": "voice [x] is missing", "cure": "satellite models pull configured"}],
    "stages": [
        {"stage": "stt", "state": "ready", "words": "", "device": "cuda float16"},
        {"stage": "tts", "state": "failed", "words": "voice x is missing; run: satellite models pull x"},
    ],
    "chat": {
        "answering": "groq",
        "switches": 3,
        "last_switch": {"at": "2026-11-23T22:05:00+00:00", "from": "ollama", "to": "groq", "reason": "no word [after]"},
        "words": "",
        "providers": [
            {
                "provider": "ollama",
                "model": "phi3:mini",
                "state": "unreachable",
                "tone": "bad",
                "up": False,
                "words": "Ollama at [::1] cannot be reached; is it running?",
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
                "words": "answers",
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
            "words": "timers: 2 running",
            "timers": {"running": 2, "ringing": 0},
        },
        {
            "responder": "home_assistant",
            "state": "open",
            "up": False,
            "words": "Home Assistant [::1] cannot be reached",
        },
    ],
    "runs": [
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
    ],
    "gpus": [{"name": "RTX 4090", "watts": 21.4, "load": 0.5, "memory_used_bytes": 2**30, "memory_total_bytes": 2**34}],
}


def shown(state: dict[str, Any]) -> str:
    """Return the page."""
    text = io.StringIO()
    status_page.show(state, Console(file=text, width=200))
    return text.getvalue()


def test_the_page_says_who_answers_and_why() -> None:
    """Everything that an administrator asks first, brackets in it left alone."""
    page = shown(STATE)
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
    """A GPU that tells nothing is still one."""
    page = shown({**STATE, "ready": False, "state": "loading", "attention": [], "gpus": [{}]})
    assert "loading · up 2.0 h" in page
    assert "GPU: a GPU" in page


def test_the_metrics_are_what_prometheus_reads() -> None:
    """Its own parser understands them, and the numbers are those of the state."""
    families = {family.name: family for family in text_string_to_metric_families(metrics.exposition(STATE))}
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["satellite_ready",] == 1
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
