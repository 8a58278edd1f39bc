"""The daemon's state as Prometheus metrics."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from satellite.engines.chat.provider_status import ChatStatus
from satellite.monitoring.status import DaemonStatus
from satellite.pipeline.responder import ResponderStatus
from satellite.skills.commands import CommandsStatus
from satellite.system.nvidia import Gpu

_SPEECH_TO_TEXT = {
    "decoded": "Stretches of speech that were decoded.",
    "full_window_retries": "Those that repeated themselves, and were decoded once more over 30 s.",
    "abandoned": "Those abandoned half-way, since the speaker went on or the client had gone.",
    "early": "Transcriptions begun in a pause of the speaker.",
    "early_used": "Those after which nothing more was said.",
}

_Samples = Sequence[tuple[Mapping[str, str], float | None]]
"""Labels and values; a value that is None is not exposed."""


def exposition(status: DaemonStatus, queues: Mapping[str, int], dropped_audio_seconds: float) -> str:
    """Return a state in Prometheus' text format, with the calls that wait for each engine."""
    # A registry for this one answer: the default one would add metrics of the Python process.
    registry = CollectorRegistry()
    registry.register(_Collected(list(_metrics(status, queues, dropped_audio_seconds))))
    return generate_latest(registry).decode()


class _Collected(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _metrics(status: DaemonStatus, queues: Mapping[str, int], dropped_audio_seconds: float) -> Iterator[Metric]:
    """Yield every metric; labels take few values."""
    yield _gauge("ready", "Whether every stage has been warmed up.", [({}, status.ready)])
    yield _gauge("state", "The daemon's state: loading, ready or degraded.", [({"state": status.state}, 1)])
    yield _gauge("attention", "How many things need attention.", [({}, len(status.attention))])
    stages = [({"stage": stage.stage}, stage.state == "ready") for stage in status.stages]
    yield _gauge("stage_ready", "Whether a stage is loaded and warm.", stages)
    rooms = [({"room": room.room}, room.state == "connected") for room in status.rooms]
    yield _gauge("room_connected", "Whether a room is connected.", rooms)
    waiting = [({"queue": name}, count) for name, count in queues.items()]
    yield _gauge("queue_fill", "Calls that wait or run.", waiting)
    tasks = "Tasks of the event loop: what grows without work has leaked."
    yield _gauge("event_loop_tasks", tasks, [({}, status.event_loop_tasks)])
    dropped = "Sound that nobody could hear in time."
    yield _counter("dropped_audio_seconds", dropped, [({}, dropped_audio_seconds)])
    for name, help_ in _SPEECH_TO_TEXT.items():
        yield _counter(f"stt_{name}", help_, [({}, status.speech_to_text.get(name))])
    yield from _responders(status.responders)
    yield from _chat(status.chat)
    failures = [({"task": task.task}, task.failures) for task in status.background]
    yield _counter("task_failures", "How often a background task has failed.", failures)
    failing = [({"task": task.task}, task.state == "failing") for task in status.background]
    yield _gauge("task_failing", "Whether a background task has failed lately, and is tried again.", failing)
    yield from _gpus(status.gpus)


def _responders(responders: Sequence[ResponderStatus]) -> Iterator[Metric]:
    ups = [({"responder": one.responder}, one.up) for one in responders]
    yield _gauge("responder_up", "Whether it is worth asking before the chat model.", ups)
    commands = (one for one in responders if isinstance(one, CommandsStatus))
    timers = [({"state": state}, count) for one in commands for state, count in one.timers.items()]
    yield _gauge("timers", "Timers of the house.", timers)


def _chat(chat: ChatStatus) -> Iterator[Metric]:
    providers = chat.providers
    yield _counter("chat_switches", "How often another provider answered than before.", [({}, chat.switches)])
    ups = [({"provider": one.provider}, one.up) for one in providers]
    yield _gauge("chat_provider_up", "Whether a provider is worth asking.", ups)
    states = [({"provider": one.provider, "state": one.state}, 1) for one in providers]
    yield _gauge("chat_provider_state", "The state a provider is in.", states)
    sent = [({"provider": one.provider}, one.sent_outside) for one in providers]
    yield _counter("chat_sent_outside", "Questions that have left the house.", sent)
    kept = [(one.provider, one.keepalive) for one in providers if one.keepalive is not None]
    seen = [({"provider": name, "state": state}, count) for name, keep in kept for state, count in keep.seen.items()]
    yield _counter("keepalive_seen", "How often a model came into a state.", seen)
    loads = [({"provider": name}, keep.load_seconds) for name, keep in kept]
    yield _gauge("keepalive_load_seconds", "How long the last load took.", loads)
    shares = [({"provider": name}, keep.gpu_share) for name, keep in kept]
    yield _gauge("keepalive_gpu_share", "Part of the model that is on a GPU.", shares)
    asked = [({"provider": name, "kind": kind}, count) for name, keep in kept for kind, count in keep.requests.items()]
    yield _counter("keepalive_requests", "Requests of the keep-alive timer.", asked)


def _gpus(gpus: Sequence[Gpu]) -> Iterator[Metric]:
    numbered = [({"gpu": str(number)}, gpu) for number, gpu in enumerate(gpus)]
    yield _gauge("gpu_watts", "Power of a GPU.", [(labels, gpu.watts) for labels, gpu in numbered])
    yield _gauge("gpu_load", "Load, 0 to 1 of a GPU.", [(labels, gpu.load) for labels, gpu in numbered])
    memory = [(labels, gpu.memory_used_bytes) for labels, gpu in numbered]
    yield _gauge("gpu_memory_used_bytes", "Memory in use of a GPU.", memory)


def _gauge(name: str, help_: str, samples: _Samples) -> Metric:
    return _filled(GaugeMetricFamily(f"satellite_{name}", help_, labels=_labels(samples)), samples)


def _counter(name: str, help_: str, samples: _Samples) -> Metric:
    return _filled(CounterMetricFamily(f"satellite_{name}", help_, labels=_labels(samples)), samples)


def _labels(samples: _Samples) -> list[str]:
    return list(samples[0][0]) if samples else []


def _filled(family: GaugeMetricFamily | CounterMetricFamily, samples: _Samples) -> Metric:
    for labels, value in samples:
        if value is not None:
            family.add_metric(list(labels.values()), float(value))
    return family
