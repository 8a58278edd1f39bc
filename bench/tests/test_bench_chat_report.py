"""The chat part of the benchmark from its figures to the report, and from its arguments to its figures."""

import asyncio
import io
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from satellite_bench import marks
from satellite_bench.chat import MESSAGES, Answered, AnswerFigures, IdleFigures, MessageFigures
from satellite_bench.chat_bare import Overhead
from satellite_bench.chat_cost import KeepAliveCost
from satellite_bench.chat_run import ChatPlan, ChatResult
from satellite_bench.commands import main
from satellite_bench.machine import Machine
from satellite_bench.report import Report, markdown
from satellite_bench.runner import Plan, Runner
from satellite_bench.stats import Compared, as_json, summarise

from satellite.models.store import Store


def idle_figures(
    after_ms: Sequence[float],
    warm_ms: Sequence[float],
    seconds: float = 5.0,
    unloads_after_seconds: float | None = None,
) -> IdleFigures:
    """Return first words after an idle time and right after another question."""

    def all_of(times: Sequence[float]) -> tuple[Answered, ...]:
        return tuple(Answered(ms, 10 * ms, "Yes.") for ms in times)

    return IdleFigures(seconds, unloads_after_seconds, all_of(after_ms), all_of(warm_ms))


def test_an_idle_time_is_told_beside_the_warm_median() -> None:
    idle = idle_figures([90, 120, 110], [100, 100, 130])
    described = as_json(idle)
    assert described["compared"]["ratio"]["median"] == 1.1
    assert [one["first_word_ms"] for one in described["after"]] == [90.0, 120.0, 110.0]
    assert described["compared"]["theirs"]["n"] == 3
    assert described["load_ms"] is None


def overhead(more_ms: float = 2.0, noise_ms: float = 1.0) -> Overhead:
    """Return what the daemon adds, and how much bare calls differ."""
    more, noise = summarise([more_ms]), summarise([noise_ms])
    sides = Compared(summarise([70.0 + more_ms]), summarise([70.0]))
    return Overhead("a script", sides, sides, more, more, noise, noise, 1, ("broken",))


def result(**changed: Any) -> ChatResult:
    figures = summarise([100.0, 200.0])
    found = ChatResult(
        "a stand-in",
        answers=AnswerFigures(figures, figures, {MESSAGES[0]: MessageFigures(figures, figures)}, ("late",)),
        idle=[idle_figures([110], [100]), idle_figures([130], [100], 4.0, 3.0)],
        overhead=[overhead()],
        switch_first_word_ms=Compared(summarise([12.0]), summarise([7.0])),
        keep_alive=KeepAliveCost(60.0, 0.5, 0.3),
        problems=["no port"],
    )
    for name, value in changed.items():
        setattr(found, name, value)
    return found


def report(found: ChatResult) -> Report:
    return Report("now", Machine("A processor", 2, 24, "3.11"), 2, (0, 0, 0), {"satellite": "0.1.0"}, {}, chat=found)


def test_the_marks_of_chat_are_judged() -> None:
    verdicts = {verdict.mark: verdict for verdict in marks.chat_verdicts(result())}
    assert len(verdicts) == 8
    missed = [mark for mark, verdict in verdicts.items() if not verdict.reached]
    assert missed == ["Chat: first word after 4 s, server unloads after 3 s, at most 1.2 times the warm median"]
    assert verdicts["Chat: first word, more with a first provider that is down"].ours == 5.0
    assert verdicts["Chat: CPU of the keep-alive"].ours == pytest.approx(0.2)
    assert list(marks.chat_verdicts(ChatResult("nothing measured"))) == []


def test_a_mark_below_the_noise_is_not_judged() -> None:
    found = result(overhead=[overhead(more_ms=9.0, noise_ms=6.0)])
    judged = [verdict.mark for verdict in marks.chat_verdicts(found)]
    assert "Chat, words of a script: first word beside a bare call, p50" not in judged
    assert "Chat, words of a script: first word beside a bare call, p95" in judged
    unjudged = list(marks.chat_unjudged(found))
    assert len(unjudged) == 2
    assert "ours 9.0, limit 5, bare calls among themselves 6.0 ms" in unjudged[0]
    assert "Too much noise to judge:" in markdown(report(found))
    assert report(found).described()["unjudged"] == unjudged


def test_everything_is_in_tables_and_in_the_json() -> None:
    made = report(result())
    text = markdown(made)
    for expected in (
        "Server: a stand-in.",
        "### Ten different messages, end to end, ms",
        "| 5              | its default          | 1 | 110    | 110  | ?               | 100 (1)  | 1.10  |",
        "### Beside a bare call, words of a script, ms; 1 of 1 pairs in the same words",
        "| the second alone",
        "0.20 % of a core",
        "- no port",
    ):
        assert expected in text
    described = made.described()
    assert made.failures == described["failures"] == ["no port", "late", "broken"]
    assert described["chat"]["answers"]["first_word_ms"]["p95"] == 195.0
    assert described["chat"]["keep_alive"]["percent"] == 0.2
    assert described["chat"]["switch_first_word_ms"]["ours"]["median"] == 12.0
    assert as_json(ChatResult("nothing"))["answers"] is None


@pytest.mark.parametrize("options", [["--url", "http://127.0.0.1:1"], ["--model", "phi3:mini"]])
def test_a_real_server_needs_a_model(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", *options]) == 1
    assert "go together" in capsys.readouterr().err


def test_an_idle_time_is_a_number_of_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["chat", "--idle", "-1"])
    assert "--idle" in capsys.readouterr().err


@pytest.mark.models
def test_the_chat_of_real_daemons_is_measured(models_directory: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.doubles", "ollama", "--model", "m", "--say", "It is warm."]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as server:
        assert server.stdout is not None
        try:
            url = server.stdout.readline().removeprefix("listening at ").strip()
            target = ChatPlan(url, "m", idle_seconds=(0.1,), rest_seconds=0.5)
            plan = Plan(("chat",), repeats=1, chat=target)
            log = io.StringIO()
            runner = Runner(plan, Store(models_directory), tmp_path, Console(file=log))
            made = asyncio.run(runner.run())
        finally:
            server.terminate()
    assert made.failures == []
    assert log.getvalue().startswith("chat")
    found = made.chat
    assert found is not None
    assert found.server == f"Ollama at {url}, m"
    assert found.answers is not None
    assert found.answers.first_word_ms.n == 10
    assert [(idle.seconds, len(idle.after)) for idle in found.idle] == [(0.1, 1)]
    pairs = [(more.words, more.pairs_with_same_words) for more in found.overhead]
    assert pairs == [("the model", 10), ("a script", 10)]
    assert found.switch_first_word_ms is not None
    assert found.keep_alive is not None
    assert found.keep_alive.seconds > 0
    assert (made.stt, made.tts, made.memory, made.their_versions) == ([], [], None, {})
