"""What was measured of a model on this host, so that not every start has to measure it again.

<folder of the model>/measured.json    what was "found" "under" which circumstances, by name
"""

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T", bound="int | float | Mapping[str, Any]")

_LOGGER = logging.getLogger(__name__)


class Remembered:
    """The measurements of one model. What is measured, and the circumstances, are what JSON can hold."""

    def __init__(self, home: Path) -> None:
        """Keep them in the folder `home`; that it cannot be written is no failure."""
        self._file = home / "measured.json"

    def get(self, what: str, circumstances: Mapping[str, Any], measure: Callable[[], T]) -> T:
        """Return what `measure` found when it was last called under these `circumstances`; if it never was, call it."""
        known = self._read()
        if what in known and known[what]["under"] == circumstances:
            found: T = known[what]["found"]
            return found
        found = measure()
        self._write({**known, what: {"under": circumstances, "found": found}})
        return found

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(self._file.read_text(encoding="utf-8"))
            return {what: {"under": one["under"], "found": one["found"]} for what, one in known.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _LOGGER.warning("%s cannot be read, and is measured anew: %s", self._file, error)
            return {}

    def _write(self, known: Mapping[str, Any]) -> None:
        new = self._file.with_suffix(f".{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
            new.replace(self._file)
        except OSError as error:
            _LOGGER.warning("%s cannot be written, and is measured at every start: %s", self._file, error)
