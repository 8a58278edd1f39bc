"""The endpoint part in tables."""

from collections.abc import Iterator, Sequence

from satellite_bench.chat_report import Table
from satellite_bench.endpoint import EndpointFigures, EndpointResult, kinds_of, label
from satellite_bench.stats import Summary

Row = Sequence[str]


def tables(result: EndpointResult) -> Iterator[Table]:
    """Yield both halves of the trade-off, side by side."""
    kinds = kinds_of(found for figures in result.figures for found in figures.found)
    paused = [kind for kind in kinds if kind]
    heads = ("", "silence that ends it", *(f"pause: {label(kind)}" for kind in kinds))
    rows = [(*_name(figures), *(_cut(figures, kind) for kind in kinds)) for figures in result.figures]
    yield Table("Commands cut too early", heads, rows)
    lost = ("median, no pause", "p95", "max", "median, with pauses", "p95")
    rows = [
        (*_name(figures), *_times(figures.lost_ms(()), 3), *_times(figures.lost_ms(*paused), 2))
        for figures in result.figures
    ]
    yield Table("Time lost, from the last of the speech to the end of the command, ms", ("", heads[1], *lost), rows)


def _name(figures: EndpointFigures) -> Row:
    return figures.finder, figures.setting + (" (default)" if figures.default else "")


def _cut(figures: EndpointFigures, kind: tuple[int, ...]) -> str:
    cut, of = figures.cut(kind)
    return f"{cut} of {of}" + (f" ({100 * cut / of:.1f} %)" if cut else "")


def _times(summary: Summary | None, columns: int) -> Row:
    if summary is None:
        return ("",) * columns
    return [f"{value:.0f}" for value in (summary.median, summary.p95, summary.max)[:columns]]
