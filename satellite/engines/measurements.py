"""Measurements of a model on this host, kept on disk so that they are not repeated at every start.

<folder of the model>/measured.json    for each name: the value "found", and the conditions "under" which it holds
"""

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T", bound="int | float | Mapping[str, object]")

_LOGGER = logging.getLogger(__name__)


class Measurements:
    """The measurements of one model. Values and conditions must be fit for JSON."""

    def __init__(self, folder: Path) -> None:
        """Keep them in `folder`; it need not exist, nor be writable."""
        self._file = folder / "measured.json"

    def get(self, name: str, conditions: Mapping[str, object], measure: Callable[[], T]) -> T:
        """Return the value measured under these `conditions`; call `measure` if there is none."""
        known = self._read()
        if name in known and known[name]["under"] == conditions:
            found: T = known[name]["found"]
            return found
        found = measure()
        self._write({**known, name: {"under": conditions, "found": found}})
        return found

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            known = json.loads(self._file.read_text(encoding="utf-8"))
            return {name: {"under": one["under"], "found": one["found"]} for name, one in known.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _LOGGER.warning("%s cannot be read; measuring again: %s", self._file, error)
            return {}

    def _write(self, known: Mapping[str, object]) -> None:
        # Complete or not at all: several processes may start at once.
        new = self._file.with_suffix(f".{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
            new.replace(self._file)
        except OSError as error:
            _LOGGER.warning("%s cannot be written; measuring at every start: %s", self._file, error)
