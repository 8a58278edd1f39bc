"""What systemd is told: that the daemon is ready, how it is, and that it is not wedged.

Without systemd (no `NOTIFY_SOCKET`) nothing is told. The watchdog is fed by a task on the event loop, and only while no
engine's thread has been busy with one call for too long: a loop that still turns around a wedged engine is no service.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from satellite.errors import ConfigError

_LOGGER = logging.getLogger(__name__)

_STATUS_SECONDS = 1.0
"""How often a changed status is told."""

_WATCHDOG_SHARE = 1 / 3
"""Part of systemd's patience after which it is told that all is well: one late message is no death."""


class Engine(Protocol):
    """An engine's thread."""

    busy_since: float | None
    """When its running call began, by `time.monotonic()`."""


class Supervisor:
    """Talks with systemd. Use `run` as a task; tell the turning points as they come."""

    def __init__(
        self, words: Callable[[], str], engines: Mapping[str, Engine], wedged_seconds: Callable[[], float]
    ) -> None:
        """Tell `words` as the status; an engine that is busy with one call for `wedged_seconds` is wedged.

        Raises `ConfigError` under systemd when the library that speaks with it is missing.
        """
        self._words = words
        self._engines = engines
        self._wedged_seconds = wedged_seconds
        self._told = ""
        self._mourned: set[str] = set()
        self._notify = _notifier()
        self._watchdog_seconds = _watchdog_seconds()

    def ready(self) -> None:
        """Tell that the daemon serves."""
        self._tell_words()
        self._notify("READY", None)

    def stopping(self) -> None:
        """Tell that the daemon is about to end."""
        self._notify("STOPPING", None)
        self._notify("STATUS", "stopping")

    def reloading(self) -> None:
        """Tell that the configuration is being read again; `ready` ends it."""
        self._notify("RELOADING", None)

    async def run(self) -> None:
        """Keep the status true and feed the watchdog until cancelled."""
        fed_at = time.monotonic()
        interval = min(_STATUS_SECONDS, self._watchdog_seconds * _WATCHDOG_SHARE)
        while True:
            self._tell_words()
            now = time.monotonic()
            if now - fed_at >= self._watchdog_seconds * _WATCHDOG_SHARE and not self._wedged(now):
                fed_at = now
                self._notify("WATCHDOG", None)
            await asyncio.sleep(interval)

    def _tell_words(self) -> None:
        words = self._words()
        if words != self._told:
            self._told = words
            self._notify("STATUS", words)

    def _wedged(self, now: float) -> bool:
        """Tell whether an engine hangs; told once an engine."""
        wedged = False
        limit = self._wedged_seconds()
        for name, engine in self._engines.items():
            since = engine.busy_since
            if since is None or now - since < limit:
                self._mourned.discard(name)
                continue
            wedged = True
            if name not in self._mourned:
                self._mourned.add(name)
                _LOGGER.error("%s has been busy with one call for %.0f s: it hangs", name, now - since)
        return wedged


def _watchdog_seconds() -> float:
    """Return after how long a silence systemd kills the daemon; infinity when it does not."""
    microseconds, owner = os.environ.get("WATCHDOG_USEC"), os.environ.get("WATCHDOG_PID")
    if not microseconds or owner not in (None, str(os.getpid())):
        return float("inf")
    return int(microseconds) / 1e6


def _notifier() -> Callable[[str, str | None], None]:
    if not os.environ.get("NOTIFY_SOCKET"):
        return lambda _name, _value: None
    try:
        from cysystemd.daemon import Notification, notify
    except ImportError as missing:
        raise ConfigError(
            "systemd waits to be told, and cysystemd is missing: sudo ./install.sh, or in a clone: "
            ".venv/bin/pip install -e '.[systemd]'"
        ) from missing
    return lambda name, value: notify(Notification[name], value or "", return_exceptions=True)
