"""Notifications to systemd: readiness, a status line, and the watchdog.

Without systemd (no `NOTIFY_SOCKET`) nothing is sent. A task on the event loop feeds the watchdog, and only while no
engine has been busy with one call for too long: an event loop that still runs beside a hung engine serves nobody.
"""

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from satellite.errors import ConfigError

_LOGGER = logging.getLogger(__name__)

_STATUS_SECONDS = 1.0
"""How often a changed status is sent."""

_START_SECONDS = 60.0
"""How long systemd waits for the next notification of a start that takes longer than `TimeoutStartSec=`."""

_LOAD_PATIENCE = 10.0
"""Factor of the longest call at the start, and for a model that is loaded later: disks may be slow, engines compile for
the first time, and a restart would only begin that again."""

_WATCHDOG_SHARE = 1 / 3
"""Part of the watchdog's timeout after which it is fed: one late notification must not restart the daemon."""


class WatchedEngine(Protocol):
    """The thread or process of an engine."""

    busy_since: float | None
    """When its running call began, by `time.monotonic()`."""

    is_loading: bool
    """Whether that call loads a model."""


class Supervisor:
    """Notifies systemd. Use `run` as a task; call the other methods as the daemon changes its state."""

    def __init__(
        self, status: Callable[[], str], engines: Mapping[str, WatchedEngine], hung_seconds: Callable[[], float]
    ) -> None:
        """Send `status`; an engine that is busy with one call for `hung_seconds` counts as hung, or ten times as long
        with loading a model.

        Raises `ConfigError` under systemd when the library that notifies it is missing.
        """
        self._status = status
        self._engines = engines
        self._hung_seconds = hung_seconds
        self._sent = ""
        self._is_ready = False
        self._reported_hung: set[str] = set()
        self._notify = _notifier()
        self._watchdog_seconds = _watchdog_seconds()

    def ready(self) -> None:
        """Report that the daemon serves."""
        self._is_ready = True
        self._send_status()
        self._notify("READY", 1)

    def stopping(self) -> None:
        """Report that the daemon is about to end."""
        self._notify("STOPPING", 1)
        self._notify("STATUS", "stopping")

    def reloading(self) -> None:
        """Report that the configuration is being read again; `ready` ends it."""
        self._notify("RELOADING", 1)

    async def run(self) -> None:
        """Send the status when it changes, and feed the watchdog, until cancelled.

        Until `ready`, the start is extended instead, likewise only while no engine hangs.
        """
        fed_at, extended_at = time.monotonic(), -math.inf
        interval = min(_STATUS_SECONDS, self._watchdog_seconds * _WATCHDOG_SHARE)
        while True:
            self._send_status()
            now = time.monotonic()
            if now - fed_at >= self._watchdog_seconds * _WATCHDOG_SHARE and not self._any_hung(now):
                fed_at = now
                self._notify("WATCHDOG", 1)
            if not self._is_ready and now - extended_at >= _START_SECONDS / 3 and not self._any_hung(now):
                extended_at = now
                self._notify("EXTEND_TIMEOUT_USEC", round(_START_SECONDS * 1e6))
            await asyncio.sleep(interval)

    def _send_status(self) -> None:
        status = self._status()
        if status != self._sent:
            self._sent = status
            self._notify("STATUS", status)

    def _any_hung(self, now: float) -> bool:
        """Return whether an engine hangs; log each once."""
        hung = False
        longest = self._hung_seconds()
        for name, engine in self._engines.items():
            since = engine.busy_since
            limit = longest * (_LOAD_PATIENCE if engine.is_loading or not self._is_ready else 1)
            if since is None or now - since < limit:
                self._reported_hung.discard(name)
                continue
            hung = True
            if name not in self._reported_hung:
                self._reported_hung.add(name)
                _LOGGER.error("%s has been busy with one call for %.0f s: it hangs", name, now - since)
        return hung


def _watchdog_seconds() -> float:
    """Return after how long without a notification systemd kills the daemon; infinity when it does not."""
    # WATCHDOG_PID: a child process inherits the variables, but it is not the one that is watched.
    microseconds, owner = os.environ.get("WATCHDOG_USEC"), os.environ.get("WATCHDOG_PID")
    if not microseconds or owner not in (None, str(os.getpid())):
        return float("inf")
    return int(microseconds) / 1e6


def _notifier() -> Callable[[str, str | int], None]:
    if not os.environ.get("NOTIFY_SOCKET"):
        return lambda _name, _value: None
    try:
        from cysystemd.daemon import sd_notify
    except ImportError as missing:
        raise ConfigError(
            "Type=notify needs cysystemd, which is missing: sudo ./install.sh, or in a clone: "
            ".venv/bin/pip install -e '.[systemd]'"
        ) from missing

    def notify(name: str, value: str | int) -> None:
        try:
            sd_notify(f"{name}={value}", False)
        except (RuntimeError, ValueError) as error:  # nobody listens, or the status is no text
            _LOGGER.debug("systemd cannot be notified: %s", error)

    return notify
