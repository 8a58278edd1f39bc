"""What the tables of all parts have in common."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from satellite_bench.stats import Compared, Summary

Row = Sequence[str]

COLUMNS = ("n", "median", "p95", "max", "mean")


@dataclass(frozen=True, slots=True)
class Table:
    """What is to be shown."""

    title: str
    heads: Row
    rows: Sequence[Row]

    def markdown(self) -> Iterator[str]:
        """Yield the lines of the table, whose columns line up, under its title if it has one."""
        if self.title:
            yield from (f"### {self.title}", "")
        cells = [[cell.replace("|", "\\|") for cell in row] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(self.heads, *cells, strict=True)]
        for row in (self.heads, ["-" * width for width in widths], *cells):
            yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"


def cells(summary: Summary, digits: int = 0) -> Row:
    """Return the cells of a summary, for `COLUMNS`."""
    values = (summary.median, summary.p95, summary.max, summary.mean)
    return str(summary.n), *(f"{value:.{digits}f}" for value in values)


def compared_rows(figure: str, compared: Compared, rival: str) -> list[Row]:
    """Return rows for both sides and their ratio."""
    rows: list[Row] = [(figure, "satellite", *cells(compared.ours))]
    if compared.theirs:
        rows.append((figure, rival, *cells(compared.theirs)))
    ratio = compared.ratio or {}
    if None not in (shares := [ratio.get("median"), ratio.get("p95")]):
        rows.append((figure, "ours / theirs", "", *(f"{share:.0%}" for share in shares), "", ""))
    return rows
