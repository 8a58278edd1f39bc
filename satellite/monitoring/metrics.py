"""The daemon's state as Prometheus metrics."""

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_SPEECH_TO_TEXT = {
    "decoded": "Stretches of speech that were decoded.",
    "full_window_retries": "Those that repeated themselves, and were decoded once more over 30 s.",
    "abandoned": "Those given up half-way, since somebody spoke on or had gone.",
    "early": "Transcriptions begun in a pause of the speaker.",
    "early_used": "Those behind which nothing more was said.",
}


def exposition(state: dict[str, Any]) -> str:
    """Return what `Status.described` returned, in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_StateCollector(state))
    return generate_latest(registry).decode()


class _StateCollector(Collector):
    def __init__(self, state: dict[str, Any]) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; labels take few values."""
        state = self._state
        yield _gauge("ready", "Whether every stage has been warmed up.", [({}, state["ready"])])
        yield _gauge("state", "The daemon's state: loading, ready or degraded.", [({"state": state["state"]}, 1)])
        yield _gauge("attention", "How many things need attention.", [({}, len(state["attention"]))])
        stages = [({"stage": stage["stage"]}, stage["state"] == "ready") for stage in state["stages"]]
        yield _gauge("stage_ready", "Whether a stage is loaded and warm.", stages)
        rooms = [({"room": room["room"]}, room.get("state") == "connected") for room in state.get("rooms", [])]
        yield _gauge("room_connected", "Whether a room is connected.", rooms)
        waiting = [({"queue": name}, count) for name, count in state.get("queues", {}).items()]
        yield _gauge("queue_fill", "Calls that wait or run.", waiting)
        counted: _Samples = [({}, state["event_loop_tasks"])] if "event_loop_tasks" in state else []
        yield _gauge("event_loop_tasks", "Tasks of the event loop: what grows without work has leaked.", counted)
        dropped: _Samples = [({}, state["dropped_audio_seconds"])] if "dropped_audio_seconds" in state else []
        yield _counter("dropped_audio_seconds", "Sound that nobody could hear in time.", dropped)
        for name, what in _SPEECH_TO_TEXT.items():
            counted = [({}, state["speech_to_text"][name])] if name in state["speech_to_text"] else []
            yield _counter(f"stt_{name}", what, counted)
        yield from _responders(state.get("responders", []))
        yield from _chat(state["chat"])
        tasks = state.get("background", [])
        failures = [({"task": task["task"]}, task["failures"]) for task in tasks]
        yield _counter("task_failures", "How often a background task has failed.", failures)
        failing = [({"task": task["task"]}, task["state"] == "failing") for task in tasks]
        yield _gauge("task_failing", "Whether a background task has failed lately, and is tried again.", failing)
        for name, unit in (("watts", "Power"), ("load", "Load, 0 to 1"), ("memory_used_bytes", "Memory in use")):
            told = [({"gpu": str(n)}, gpu[name]) for n, gpu in enumerate(state["gpus"]) if name in gpu]
            yield _gauge(f"gpu_{name}", f"{unit} of a GPU.", told)


def _responders(responders: list[dict[str, Any]]) -> Iterator[Metric]:
    ups = [({"responder": one["responder"]}, one["up"]) for one in responders]
    yield _gauge("responder_up", "Whether it is worth asking before the chat model.", ups)
    timers = [({"state": s}, count) for one in responders for s, count in one.get("timers", {}).items()]
    yield _gauge("timers", "Timers of the house.", timers)


def _chat(chat: dict[str, Any]) -> Iterator[Metric]:
    providers = chat["providers"]
    yield _counter("chat_switches", "How often another provider answered than before.", [({}, chat["switches"])])
    ups = [({"provider": one["provider"]}, one["up"]) for one in providers]
    yield _gauge("chat_provider_up", "Whether a provider is worth asking.", ups)
    states = [({"provider": one["provider"], "state": one["state"]}, 1) for one in providers]
    yield _gauge("chat_provider_state", "The state a provider is in.", states)
    sent = [({"provider": one["provider"]}, one["sent_outside"]) for one in providers if "sent_outside" in one]
    yield _counter("chat_sent_outside", "Questions that have left the house.", sent)
    kept = [(one["provider"], one["keepalive"]) for one in providers if "keepalive" in one]
    seen = [({"provider": name, "state": s}, count) for name, keep in kept for s, count in keep["seen"].items()]
    yield _counter("keepalive_seen", "How often a model came into a state.", seen)
    loads = [({"provider": name}, keep["load_seconds"]) for name, keep in kept if keep["load_seconds"] is not None]
    yield _gauge("keepalive_load_seconds", "How long the last load took.", loads)
    shares = [({"provider": name}, keep["gpu_share"]) for name, keep in kept if keep["gpu_share"] is not None]
    yield _gauge("keepalive_gpu_share", "Part of the model that is on a GPU.", shares)
    asked = [
        ({"provider": name, "kind": kind}, count) for name, keep in kept for kind, count in keep["requests"].items()
    ]
    yield _counter("keepalive_requests", "Requests of the keep-alive timer.", asked)


_Samples = list[tuple[dict[str, str], Any]]


def _gauge(name: str, help_: str, samples: _Samples) -> Metric:
    return _filled(GaugeMetricFamily(f"satellite_{name}", help_, labels=_labels(samples)), samples)


def _counter(name: str, help_: str, samples: _Samples) -> Metric:
    return _filled(CounterMetricFamily(f"satellite_{name}", help_, labels=_labels(samples)), samples)


def _labels(samples: _Samples) -> list[str]:
    return list(samples[0][0]) if samples else []


def _filled(family: Any, samples: _Samples) -> Metric:
    for labels, value in samples:
        family.add_metric(list(labels.values()), float(value))
    return family  # type: ignore[no-any-return]  # one of prometheus_client's families
