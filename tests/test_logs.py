"""What the journal gets of a record, and the log of a run."""

import ast
import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from wyoming.asr import Transcribe, Transcript

from satellite.audio.pcm import read_wav
from satellite.errors import Stage
from satellite.events import ChatEnd, ChatStart, RunBus, RunEnd, RunEvent, RunIdentity, RunStart, SttEnd, SttVadEnd
from satellite.monitoring.runs import logged_runs
from satellite.system.logs import BoundedFormatter, JournalHandler, set_level
from satellite.tasks import Background
from tests.running_daemon import DATA, RunningDaemon
from tests.waiting import until
from tests.wyoming_client import connect

PACKAGE = Path(__file__).parent.parent / "satellite"


@contextmanager
def logging_by(handler: logging.Handler) -> Iterator[logging.Logger]:
    logger = logging.getLogger("satellite.test_logs")
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)


def test_a_record_has_its_fields_and_priority() -> None:
    sent: list[dict[str, Any]] = []
    with logging_by(JournalHandler(lambda **fields: sent.append(fields))) as logger:
        fields = {"run": "r1", "room": "kitchen", "code": "stt-timeout", "ms": 12}
        logger.warning("run %s: %s", "r1", "late", extra=fields)
        logger.error("plain")
    first, second = sent
    ours = {name: value for name, value in first.items() if name.startswith("SATELLITE_")}
    assert ours == {f"SATELLITE_{name.upper()}": str(value) for name, value in fields.items()}
    assert (first["MESSAGE"], first["PRIORITY"], first["SYSLOG_IDENTIFIER"]) == ("run r1: late", 4, "satellite")
    assert second["PRIORITY"] == 3
    assert not any(name.startswith("SATELLITE_") for name in second)


def test_no_message_is_longer_than_a_log_can_bear(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(BoundedFormatter("%(levelname)s %(message)s"))
    with logging_by(handler) as logger:
        try:
            raise ValueError("this is why")
        except ValueError:
            logger.exception("name %s", "x" * 100_000)
    written = capsys.readouterr().err
    assert written.startswith("ERROR name xxx")
    assert written.rstrip().endswith("ValueError: this is why")
    assert len(written) < 10_000


def test_what_names_a_room_a_run_or_a_code_has_it_as_a_field() -> None:
    lacking = []
    for file in sorted(PACKAGE.rglob("*.py")):
        for call in ast.walk(ast.parse(file.read_text())):
            match call:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="_LOGGER"))):
                    pass
                case _:
                    continue
            said = next((one.value for one in call.args if isinstance(one, ast.Constant)), "")
            fields = next((ast.unparse(one.value) for one in call.keywords if one.arg == "extra"), "")
            if fields.isidentifier():
                continue  # made a line above
            for words, field in (("room %s", "room"), ("run %s", "run"), ("[%s]", "code")):
                if words in str(said) and f"'{field}'" not in fields:
                    lacking.append(f"{file}:{call.lineno}: {field}")
    assert lacking == []


def test_a_failing_journal_breaks_nothing(capsys: Any) -> None:
    def refuse(**_: object) -> None:
        raise OSError("no journal")

    JournalHandler(refuse).handle(logging.makeLogRecord({"msg": "hello", "levelno": logging.INFO}))
    assert "no journal" in capsys.readouterr().err


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
async def test_a_run_is_one_line_and_at_debug_one_of_what_was_said(
    level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(level, "satellite")
    bus = RunBus()
    recorder = logged_runs(bus)
    recorder.start(Background())
    await asyncio.sleep(0)
    run = RunIdentity("r1", "kitchen")
    events: tuple[RunEvent, ...] = (
        RunStart(run, Stage.STT, Stage.CHAT, at=10.0),
        SttVadEnd(run, 0.5, 1, at=11.0),
        SttEnd(run, "a secret", "en", 0.2, at=11.2),
        ChatStart(run, "a secret", at=11.2),
        ChatEnd(run, "another secret", "local", at=11.5),
        RunEnd(run, at=11.6),
    )
    for event in events:
        bus.publish(event)
    await until(lambda: caplog.records)
    await recorder.stop()
    record, *words = caplog.records
    assert record.getMessage() == "run r1 in kitchen: done in 1600 ms (stt 200, chat 300)"
    assert (vars(record)["run"], vars(record)["room"], vars(record)["ms"]) == ("r1", "kitchen", 1600)
    assert "secret" not in record.getMessage()
    told = [(one.levelno, one.getMessage(), vars(one)["run"]) for one in words]
    said = "run r1 in kitchen: heard “a secret”, answered “another secret”"
    assert told == ([] if level == logging.INFO else [(logging.DEBUG, said, "r1")])


@pytest.mark.models
async def test_whatever_is_heard_and_answered_is_logged_at_debug_alone(
    daemon: RunningDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "satellite")
    async with connect(daemon.port()) as client:
        await client.send(Transcribe())
        await client.send_audio(read_wav(DATA / "commands" / "turn_on_the_lights.wav"))
        await client.until("transcript-stop")
        await client.send(Transcript(text="Say\n" + "nothing " * 200))
        await client.until("handled-stop")
    await daemon.settled()
    heard = [record for record in caplog.records if "heard “" in record.getMessage()]
    assert {record.levelno for record in heard} == {logging.DEBUG}
    transcript, question = (record.getMessage() for record in heard)
    assert "lights" in transcript
    assert "heard “Say\\nnothing nothing" in question
    assert "…”, answered “" in question
    assert "\n" not in question
    assert len(question) < 1200
    others = [record.getMessage() for record in caplog.records if record not in heard]
    assert not any("lights" in said or "nothing" in said for said in others)


def test_libraries_that_report_what_the_daemon_says_itself_log_errors_alone() -> None:
    set_level("info")
    for name in ("zeroconf", "aioesphomeapi.connection"):
        assert not logging.getLogger(name).isEnabledFor(logging.WARNING)
        assert logging.getLogger(name).isEnabledFor(logging.ERROR)
