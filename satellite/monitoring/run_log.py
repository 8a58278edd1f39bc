"""A line in the log for each run that has ended: where its time went; at debug another one: what was said."""

import logging

from satellite.events import RunBus
from satellite.monitoring.runs import RunHistory, RunRecord
from satellite.system.logs import log_words

_LOGGER = logging.getLogger(__name__)

_STAGES = ("stt", "chat", "tts")
_UNDER_WAY = 256
"""Runs at once of which the latest are followed."""


def log_runs(bus: RunBus) -> RunHistory:
    """Return what logs the runs on `bus`; it is to be started and stopped."""
    recorder = RunHistory(bus, kept=_UNDER_WAY, transcripts=True)
    recorder.on_change(_note)
    return recorder


def _note(run: RunRecord) -> None:
    if run.outcome == "running":
        return
    told = [f"{stage} {1000 * seconds:.0f}" for stage in _STAGES if (seconds := run.seconds(stage)) is not None]
    milliseconds = round(1000 * (run.total or 0.0))
    code = run.error["code"] if run.error else None
    _LOGGER.info(
        "run %s in %s: %s in %d ms%s",
        run.id,
        run.room,
        f"[{code}]" if code else run.outcome,
        milliseconds,
        f" ({', '.join(told)})" if told else "",
        extra={"run": run.id, "room": run.room, "code": code, "ms": milliseconds},
    )
    if run.heard or run.said:
        log_words(f"run {run.id} in {run.room}", run.heard, run.said, run=run.id, room=run.room)
