"""Logging: plain lines on a terminal or a pipe; under systemd, records with fields in the journal.

Fields are passed as `extra` of a log call: `room`, `run`, `stage`, `code`, `ms`. In the journal they are
SATELLITE_ROOM and so on: `journalctl -u satellite SATELLITE_ROOM=kitchen`.
"""

import logging
import os
import sys
from collections.abc import Callable

from satellite.errors import shown

_LOGGER = logging.getLogger(__name__)

_WORDS = 500
"""Most characters of a transcript or an answer that are logged."""

_LONGEST_MESSAGE = 4000
"""Most characters of a message, without its traceback, that are logged."""

_FIELDS = ("room", "run", "stage", "code", "ms")
_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
NOISY = ("httpx", "httpcore", "ollama", "huggingface_hub", "filelock")
"""Libraries that log below warning only at debug."""

REPORTED = ("aioesphomeapi", "zeroconf")
"""Libraries whose warnings the daemon puts into words itself, or that warn, with tracebacks, of networks that this
machine does not have: they log errors only, but at debug.

Even then not all: at its own debug aioesphomeapi logs every message, with new encryption keys and all audio.
"""


TOLD = ("aioesphomeapi.outgoing_connection",)
"""What of `REPORTED` says at info who was refused, each once an hour."""


def set_up(level: str) -> None:
    """Log at `level` (debug, info, warning, error) and above, to the journal or else to standard error."""
    send = _journal()
    handler = logging.StreamHandler() if send is None else JournalHandler(send)
    if send is None:
        handler.setFormatter(BoundedFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S"))
    logging.basicConfig(handlers=[handler], force=True)
    set_level(level)


def set_level(level: str) -> None:
    """Log at `level` and above from now on."""
    logging.getLogger().setLevel(level.upper())
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.NOTSET if level == "debug" else logging.WARNING)
    for reported in REPORTED:
        logging.getLogger(reported).setLevel(logging.INFO if level == "debug" else logging.ERROR)
    for told in TOLD:
        logging.getLogger(told).setLevel(level.upper())


def log_words(whose: str, heard: str, said: str | None = None, **fields: str) -> None:
    """Log a transcript and its answer at debug, and at no other level: they are private."""
    if said is None:
        _LOGGER.debug("%s: heard “%s”", whose, shown(heard, _WORDS), extra=fields)
    else:
        _LOGGER.debug("%s: heard “%s”, answered “%s”", whose, shown(heard, _WORDS), shown(said, _WORDS), extra=fields)


def in_journal() -> bool:
    """Return whether log records go to the journal, with their fields."""
    return any(isinstance(handler, JournalHandler) for handler in logging.getLogger().handlers)


class BoundedFormatter(logging.Formatter):
    """Cuts long messages, which may contain what a peer has sent."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return a record's line, without its traceback."""
        if len(record.message) > _LONGEST_MESSAGE:
            record.message = f"{record.message[:_LONGEST_MESSAGE]}…"
        return super().formatMessage(record)


class JournalHandler(logging.Handler):
    """Sends records to the journal, with their fields and priority."""

    def __init__(self, send: Callable[..., object]) -> None:
        """`send` takes the journal's fields by name."""
        super().__init__()
        self._send = send
        self.setFormatter(BoundedFormatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record; a failure is reported on standard error."""
        fields = {
            f"SATELLITE_{name.upper()}": str(value)
            for name in _FIELDS
            if (value := getattr(record, name, None)) is not None
        }
        try:
            self._send(
                MESSAGE=self.format(record),
                PRIORITY=_PRIORITIES.get(record.levelno, 6),
                SYSLOG_IDENTIFIER="satellite",
                LOGGER=record.name,
                CODE_FILE=record.pathname,
                CODE_LINE=record.lineno,
                CODE_FUNC=record.funcName,
                **fields,
            )
        except (OSError, ValueError, TypeError):
            self.handleError(record)


def _journal() -> Callable[..., object] | None:
    """Return the function that writes to the journal; None where standard error is not connected to it."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        error = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return None
    # The variable is inherited also by processes whose standard error was redirected.
    if (device, inode) != (str(error.st_dev), str(error.st_ino)):
        return None
    try:
        from cysystemd.journal import send
    except ImportError:
        return None
    return send  # type: ignore[no-any-return]  # it ships no types
