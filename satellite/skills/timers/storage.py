"""Timers on disk, to survive restarts: one JSON file, replaced as a whole, with ends by the wall clock."""

import json
import logging
import math
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from satellite.skills.timers.timers import LONGEST_SECONDS, MOST, Duration, Timer, TimerState
from satellite.system.files import replace_file

_LOGGER = logging.getLogger(__name__)

_VERSION = 1
_SYSTEM_DIRECTORY = Path("/var/lib/satellite")


def default_directory() -> Path:
    """Return $SATELLITE_STATE, else the system's folder if it is writable, else one in the user's state folder."""
    if chosen := os.environ.get("SATELLITE_STATE"):
        return Path(chosen).expanduser()
    if _SYSTEM_DIRECTORY.is_dir() and os.access(_SYSTEM_DIRECTORY, os.W_OK):
        return _SYSTEM_DIRECTORY
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "satellite"


class TimerFile:
    """`timers.json` in a folder, used by one process at a time. All methods block."""

    def __init__(self, directory: Path | None = None) -> None:
        self.path = (directory or default_directory()) / "timers.json"
        # Locked and released in different threads of a pool, which a thread-local lock would not survive.
        self._lock = FileLock(f"{self.path}.lock", thread_local=False)
        self._writing = threading.Lock()
        self._written = 0

    def open(self) -> list[Timer]:
        """Lock the file and return its timers; raises OSError where that fails or another process has locked it.

        A file that cannot be parsed is renamed and reported, never overwritten.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise OSError(f"another process keeps its timers in {self.path}") from error
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            self._rename_unreadable(str(error))
            return []
        timers, problems = _parsed(text)
        if problems:
            self._rename_unreadable("; ".join(problems))
        return timers

    def write(self, timers: Sequence[Timer], number: int) -> None:
        """Replace the file, unless a snapshot with a higher `number` has been written; raises OSError."""
        with self._writing:
            if number <= self._written:
                return
            replace_file(
                self.path, json.dumps({"version": _VERSION, "timers": [asdict(timer) for timer in timers]}, indent=1)
            )
            self._written = number

    def close(self) -> None:
        """Release the lock; may be called twice."""
        self._lock.release(force=True)

    def _rename_unreadable(self, why: str) -> None:
        number = 1
        while (aside := self.path.with_name(f"timers-unreadable-{number}.json")).exists():
            number += 1
        self.path.rename(aside)
        _LOGGER.warning("%s cannot be read and was renamed to %s: %s", self.path, aside.name, why)


def _parsed(text: str) -> tuple[list[Timer], list[str]]:
    """Return the timers in a text, and the problems of what is none."""
    try:
        document = json.loads(text)
        if document["version"] != _VERSION:
            return [], [f"version {document['version']}, not {_VERSION}"]
        records = list(document["timers"])
    except (ValueError, KeyError, TypeError) as error:
        return [], [f"not timers: {error!r}"]
    timers, problems = [], []
    for record in records:
        try:
            timers.append(_timer(record))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(f"no timer: {record!r:.200}: {error!r}")
    if len(timers) > MOST:
        problems.append(f"{len(timers)} timers")
    return timers[:MOST], problems


def _timer(record: dict[str, Any]) -> Timer:
    """Return the timer of a record; raises ValueError, KeyError, TypeError or AttributeError for what is none."""
    fields = {**record, "start": Duration(**record["start"]), "state": TimerState(record["state"])}
    timer = Timer(**fields)
    texts = (timer.id, timer.place, timer.name or "", timer.room or "", timer.language or "")
    # Dataclasses check no types, and a wrong one would only surface when the timer rings.
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("text expected")
    if not 0 < timer.start.total_seconds <= LONGEST_SECONDS or not 0 <= timer.left_seconds <= LONGEST_SECONDS:
        raise ValueError("too long")
    if not math.isfinite(timer.ends_at):
        raise ValueError("no time")
    return Timer(**{**fields, "ends_at": float(timer.ends_at), "total_seconds": int(timer.total_seconds)})
