"""What the runs were like, counted for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from satellite.monitoring.runs import RunRecord

_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30)

_STAGES = ("listen", "stt", "chat", "tts")


class RunMetrics:
    """Counts runs as they end: `RunHistory.on_change` calls it."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._runs = Counter("satellite_runs", "Runs by how they ended.", ["outcome"], registry=registry)
        self._errors = Counter(
            "satellite_errors", "Runs that failed, by the error's code.", ["code"], registry=registry
        )
        self._wakes = Counter("satellite_wake_detections", "Wake words heard.", ["word"], registry=registry)
        self._stages = Histogram(
            "satellite_stage_seconds", "How long a stage took.", ["stage"], registry=registry, buckets=_SECONDS
        )
        self._first_token = Histogram(
            "satellite_first_token_seconds", "From the question to the first word.", registry=registry, buckets=_SECONDS
        )
        self._voice_to_voice = Histogram(
            "satellite_voice_to_voice_seconds",
            "From the end of a person's speech to the first sound of the answer.",
            registry=registry,
            buckets=_SECONDS,
        )

        self._after_commit = Histogram(
            "satellite_after_command_seconds",
            "From the known end of a command to the first sound of the answer: what could not be done before.",
            registry=registry,
            buckets=_SECONDS,
        )
        self._speculations = Counter(
            "satellite_speculations",
            "Answers that were begun speculatively, in a pause of the speaker.",
            ["outcome"],
            registry=registry,
        )

    def note(self, run: RunRecord) -> None:
        """Count `run` if it has ended."""
        if run.outcome == "running":
            return
        self._runs.labels(run.outcome).inc()
        if run.error is not None:
            self._errors.labels(run.error.code).inc()
        if run.wake_word:
            self._wakes.labels(run.wake_word).inc()
        for stage in _STAGES:
            if (seconds := run.seconds(stage)) is not None:
                self._stages.labels(stage).observe(seconds)
        # Runs that begin with a text have no end of speech, and those that end at chat no sound.
        marks = run.marks
        chat = next((span for span in run.spans if span.name == "chat"), None)
        if chat is not None and "first_token" in marks:
            self._first_token.observe(marks["first_token"] - chat.start)
        if "speech_end" in marks and "first_audio" in marks:
            self._voice_to_voice.observe(marks["first_audio"] - marks["speech_end"])
            self._after_commit.observe(marks["first_audio"] - marks["command_end"])
        if run.speculations:
            self._speculations.labels("used").inc()
            self._speculations.labels("dropped").inc(run.speculations - 1)

    def exposition(self) -> str:
        """Return the counts in Prometheus' text format."""
        return generate_latest(self._registry).decode()
