"""The HTTP part of the benchmark: real clients against a daemon of its own, and what is made of the figures."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from satellite_bench import http, marks, part_tables
from satellite_bench.stats import Summary, as_json

FAST = Summary(n=60, median=1.5, p95=2.5, max=9.0, mean=1.6)
SLOW = Summary(n=60, median=3.5, p95=60.0, max=90.0, mean=5.0)
RESULT = http.HttpResult(FAST, FAST, FAST, FAST, FAST, commands=51)


def test_every_figure_has_its_row() -> None:
    (table,) = part_tables.http_tables(RESULT)
    assert [row[2] for row in table.rows] == ["1.5"] * 5
    assert "20 more talking (51 commands)" in table.rows[-1][0]
    assert as_json(RESULT)["idle_clients"] == 200


def test_each_mark_is_judged_by_its_own_figure() -> None:
    assert all(verdict.reached for verdict in marks.http_verdicts(RESULT))
    slow = [replace(RESULT, chat_overhead_ms=SLOW), replace(RESULT, first_token_overhead_ms=SLOW)]
    slow.append(replace(RESULT, describe_talking_ms=SLOW))
    for at, result in enumerate(slow):
        verdicts = list(marks.http_verdicts(result))
        assert [verdict.reached for verdict in verdicts] == [number != at for number in range(3)]


@pytest.mark.models
def test_it_measures(tmp_path: Path, models_directory: Path) -> None:
    result = asyncio.run(http.measure(tmp_path, models_directory, 2, repeats=2, talking_seconds=4.0))
    assert result.chat_overhead_ms.n == result.first_token_overhead_ms.n == result.describe_idle_ms.n == 2
    assert result.describe_talking_ms.n > 2
    assert result.commands > 0
