"""The HTTP part in a table."""

from collections.abc import Iterator

from satellite_bench.chat_report import Table
from satellite_bench.http import IDLE, TALKING, HttpResult


def tables(result: HttpResult) -> Iterator[Table]:
    """Yield the times."""
    rows = {
        "`/chat` over the run's own time": result.chat_ms,
        "first word over `/ws` over the model's own time": result.first_token_ms,
        "`describe`, nobody else": result.describe_alone_ms,
        f"`describe`, {IDLE} WebSocket clients idle": result.describe_idle_ms,
        f"`describe`, {TALKING} more talking ({result.commands} commands)": result.describe_talking_ms,
    }
    told = [
        (what, str(row.n), *(f"{value:.1f}" for value in (row.median, row.p95, row.max, row.mean)))
        for what, row in rows.items()
    ]
    yield Table("Times, ms", ("what", "n", "median", "p95", "max", "mean"), told)
