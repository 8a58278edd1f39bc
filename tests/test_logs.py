"""What the journal gets of a record."""

import logging
from typing import Any

from satellite.logs import JournalHandler


def test_a_record_has_its_fields_and_priority() -> None:
    """What was given as `extra`, and nothing of the arguments beside the message."""
    sent: list[dict[str, Any]] = []
    handler = JournalHandler(lambda **fields: sent.append(fields))
    logger = logging.getLogger("satellite.test_logs")
    logger.addHandler(handler)
    try:
        logger.warning(
            "run %s: %s", "r1", "late", extra={"run": "r1", "room": "kitchen", "code": "stt-timeout", "ms": 12}
        )
        logger.error("plain")
    finally:
        logger.removeHandler(handler)
    first, second = sent
    ours = {name: value for name, value in first.items() if name.startswith("SATELLITE_")}
    assert ours == {
        "SATELLITE_RUN": "r1",
        "SATELLITE_ROOM": "kitchen",
        "SATELLITE_CODE": "stt-timeout",
        "SATELLITE_MS": "12",
    }
    assert (first["MESSAGE"], first["PRIORITY"], first["SYSLOG_IDENTIFIER"]) == ("run r1: late", 4, "satellite")
    assert second["PRIORITY"] == 3
    assert not any(name.startswith("SATELLITE_") for name in second)


def test_a_failing_journal_breaks_nothing(capsys: Any) -> None:
    """It is told on standard error."""

    def refuse(**_: object) -> None:
        raise OSError("no journal")

    JournalHandler(refuse).handle(logging.makeLogRecord({"msg": "hello", "levelno": logging.INFO}))
    assert "no journal" in capsys.readouterr().err
