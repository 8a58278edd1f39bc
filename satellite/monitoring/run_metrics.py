"""What the runs were like, counted for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from satellite.monitoring.runs import RunRecord

_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30)

_STAGES = ("listen", "stt", "chat", "tts")


class RunMetrics:
    """Counts runs as they end: `RunHistory.on_change` calls it."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._runs = self._counter("runs", "Runs by how they ended.", "outcome")
        self._errors = self._counter("errors", "Runs that failed, by the error's code.", "code")
        self._wakes = self._counter("wake_detections", "Wake words heard.", "word")
        speculations = "Answers that were begun speculatively, in a pause of the speaker."
        self._speculations = self._counter("speculations", speculations, "outcome")
        self._stages = self._histogram("stage", "How long a stage took.", "stage")
        self._first_token = self._histogram("first_token", "From the question to the first word.")
        voice_to_voice = "From the end of a person's speech to the first sound of the answer."
        self._voice_to_voice = self._histogram("voice_to_voice", voice_to_voice)
        after = "From the known end of a command to the first sound of the answer: what could not be done before."
        self._after_command = self._histogram("after_command", after)

    def _counter(self, name: str, help_: str, label: str) -> Counter:
        return Counter(f"satellite_{name}", help_, [label], registry=self._registry)

    def _histogram(self, name: str, help_: str, *labels: str) -> Histogram:
        return Histogram(f"satellite_{name}_seconds", help_, labels, registry=self._registry, buckets=_SECONDS)

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
            self._after_command.observe(marks["first_audio"] - marks["command_end"])
        if run.speculations:
            self._speculations.labels("used").inc()
            self._speculations.labels("dropped").inc(run.speculations - 1)

    def exposition(self) -> str:
        """Return the counts in Prometheus' text format."""
        return generate_latest(self._registry).decode()
