"""Logging: plain lines on a terminal or a pipe; under systemd, records with fields in the journal.

The fields are given as `extra` where something is logged: `room`, `run`, `stage`, `code`, `ms`. In the journal they
are SATELLITE_ROOM and so on: `journalctl -u satellite SATELLITE_ROOM=kitchen`.
"""

import logging
import os
import sys
from collections.abc import Callable

from satellite.errors import shown

_LOGGER = logging.getLogger(__name__)

_WORDS = 500
"""Characters of what was heard or answered that are logged."""

_LONGEST_MESSAGE = 4000
"""Characters of a message that are logged, whoever wrote it; a traceback is beside it."""

_FIELDS = ("room", "run", "stage", "code", "ms")
_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
NOISY = ("httpx", "httpcore", "ollama", "zeroconf", "huggingface_hub", "filelock")
"""Libraries that are heard only at debug."""


def set_up(level: str) -> None:
    """Log at `level` (debug, info, warning, error) and above, to the journal or else to standard error."""
    send = _journal()
    handler = logging.StreamHandler() if send is None else JournalHandler(send)
    if send is None:
        handler.setFormatter(BoundedFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S"))
    logging.basicConfig(handlers=[handler], force=True)
    set_level(level)


def set_level(level: str) -> None:
    """Log at `level` and above from now on; libraries speak up only at debug."""
    logging.getLogger().setLevel(level.upper())
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(logging.NOTSET if level == "debug" else logging.WARNING)


def log_words(whose: str, heard: str, said: str | None = None, **fields: str) -> None:
    """Log what was heard, and what was answered to it: at debug, and nothing of it at any other level."""
    if said is None:
        _LOGGER.debug("%s: heard “%s”", whose, shown(heard, _WORDS), extra=fields)
    else:
        _LOGGER.debug("%s: heard “%s”, answered “%s”", whose, shown(heard, _WORDS), shown(said, _WORDS), extra=fields)


def in_journal() -> bool:
    """Tell whether what is logged goes into the journal, with its fields."""
    return any(isinstance(handler, JournalHandler) for handler in logging.getLogger().handlers)


class BoundedFormatter(logging.Formatter):
    """Cuts messages that are too long for a log: what a peer has written may be in them."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line of a record, without its traceback."""
        if len(record.message) > _LONGEST_MESSAGE:
            record.message = f"{record.message[:_LONGEST_MESSAGE]}…"
        return super().formatMessage(record)


class JournalHandler(logging.Handler):
    """Hands records to the journal, with their fields and the right priority."""

    def __init__(self, send: Callable[..., object]) -> None:
        """Write by `send`, which takes the fields by name."""
        super().__init__()
        self._send = send
        self.setFormatter(BoundedFormatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; a failure is told on standard error and costs nothing else."""
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
    """Return how to write to the journal, None when standard error does not lead there."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        error = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return None
    if (device, inode) != (str(error.st_dev), str(error.st_ino)):
        return None
    try:
        from cysystemd.journal import send
    except ImportError:
        return None
    return send  # type: ignore[no-any-return]  # it ships no types
