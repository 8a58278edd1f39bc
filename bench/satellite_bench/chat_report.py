"""The chat part in tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from satellite_bench.chat import AnswerFigures, IdleFigures
from satellite_bench.chat_bare import Overhead
from satellite_bench.chat_cost import KeepAliveCost
from satellite_bench.chat_run import ChatResult
from satellite_bench.stats import Compared, Summary

Row = Sequence[str]

_COLUMNS = ("n", "median", "p95", "max", "mean")


@dataclass(frozen=True, slots=True)
class Table:
    """What is to be shown."""

    title: str
    heads: Row
    rows: Sequence[Row]


def tables(result: ChatResult) -> Iterator[Table]:
    """Yield a table for everything that was measured."""
    if result.answers:
        yield _answers(result.answers)
        yield _messages(result.answers)
    if result.idle:
        unloads = "server unloads after"
        heads = ("without use, s", unloads, "n", "median", "each", "loading at most", "warm (n)", "ratio")
        yield Table("First word after a rest, ms", heads, [_idle(idle) for idle in result.idle])
    for overhead in result.overhead:
        yield _overhead(overhead)
    if result.switch:
        yield _switch(result.switch)
    if result.cost:
        yield _cost(result.cost)


def _answers(answers: AnswerFigures) -> Table:
    rows = [("first word", *_cells(answers.first_word_ms)), ("whole answer", *_cells(answers.complete_ms))]
    return Table("Ten different messages, end to end, ms", ("figure", *_COLUMNS), rows)


def _messages(answers: AnswerFigures) -> Table:
    rows = [
        (message, str(first.n), f"{first.median:.0f}", f"{complete.median:.0f}")
        for message, (first, complete) in answers.by_message.items()
    ]
    return Table("Message by message, medians, ms", ("message", "n", "first word", "whole answer"), rows)


def _idle(idle: IdleFigures) -> Row:
    compared = idle.compared
    after, warm = compared.ours, compared.theirs
    assert warm is not None
    return (
        f"{idle.seconds:g}",
        "its default" if idle.unloads_after_seconds is None else f"{idle.unloads_after_seconds:g} s",
        str(after.n),
        f"{after.median:.0f}",
        ", ".join(f"{answered.first_word_ms:.0f}" for answered in idle.after),
        "?" if idle.load_ms is None else f"{idle.load_ms:.0f}",
        f"{warm.median:.0f} ({warm.n})",
        f"{compared.median_ratio or 0:.2f}",
    )


def _overhead(overhead: Overhead) -> Table:
    """Show both sides, the difference of the pairs, and how much two bare calls differ by themselves."""
    rows: list[Row] = []
    for figure, name in (("first word", "first_word"), ("whole answer", "complete")):
        sides: Compared = getattr(overhead, f"{name}_ms")
        assert sides.theirs is not None
        rows += [
            (figure, "through the daemon", *_fine(sides.ours)),
            (figure, "bare call", *_fine(sides.theirs)),
            (figure, "daemon less bare, pair by pair", *_fine(getattr(overhead, f"{name}_more_ms"))),
            (figure, "bare less the bare one before", *_fine(getattr(overhead, f"{name}_noise_ms"))),
        ]
    same = f"{overhead.same_words} of {overhead.first_word_more_ms.n} pairs in the same words"
    return Table(f"Beside a bare call, words of {overhead.words}, ms; {same}", ("figure", "", *_COLUMNS), rows)


def _switch(switch: Compared) -> Table:
    assert switch.theirs is not None
    rows = [
        ("the first provider is down, the second answers", *_fine(switch.ours)),
        ("the second alone", *_fine(switch.theirs)),
    ]
    return Table("Switch to the next provider: first word, ms", ("providers", *_COLUMNS), rows)


def _cost(cost: KeepAliveCost) -> Table:
    rows = [
        ("CPU of the daemon, keep-alive on", f"{cost.with_percent:.2f} % of a core"),
        ("CPU of the daemon, keep-alive off", f"{cost.without_percent:.2f} % of a core"),
        ("keep-alive", f"{cost.percent:.2f} % of a core"),
    ]
    return Table(f"Cost of the keep-alive, over {cost.seconds:.0f} s at rest", ("what", "takes"), rows)


def _cells(summary: Summary) -> Row:
    return str(summary.n), *(f"{value:.0f}" for value in _values(summary))


def _fine(summary: Summary) -> Row:
    return str(summary.n), *(f"{value:.1f}" for value in _values(summary))


def _values(summary: Summary) -> Sequence[float]:
    return summary.median, summary.p95, summary.max, summary.mean
