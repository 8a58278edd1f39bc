"""What a series of measurements comes to, and how two of them compare."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Summary:
    """A series in five numbers, in the unit of the series."""

    n: int
    median: float
    p95: float
    max: float
    mean: float

    def described(self) -> dict[str, float]:
        """Return it for JSON, rounded to a tenth."""
        values = {"median": self.median, "p95": self.p95, "max": self.max, "mean": self.mean}
        return {"n": self.n} | {name: round(value, 1) for name, value in values.items()}


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of both sides; `theirs` is None when only ours was measured."""

    ours: Summary
    theirs: Summary | None = None

    @property
    def median_ratio(self) -> float | None:
        """Our median over theirs; under 1 is ours the smaller."""
        return ratio(self.ours.median, self.theirs.median) if self.theirs else None

    @property
    def p95_ratio(self) -> float | None:
        """Our 95th percentile over theirs."""
        return ratio(self.ours.p95, self.theirs.p95) if self.theirs else None

    def described(self) -> dict[str, Any]:
        """Return it for JSON."""
        described: dict[str, Any] = {"ours": self.ours.described()}
        if self.theirs:
            described["theirs"] = self.theirs.described()
            described["ratio"] = {"median": rounded(self.median_ratio), "p95": rounded(self.p95_ratio)}
        return described


def summarise(values: Sequence[float]) -> Summary:
    """Return the five numbers of `values`; raises `ValueError` when there are none."""
    if not values:
        raise ValueError("nothing was measured")
    return Summary(
        len(values), statistics.median(values), percentile(values, 95), max(values), statistics.fmean(values)
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile of `values`, between neighbours in proportion, as wyoming-bench and numpy do."""
    ordered = sorted(values)
    rank = percent / 100 * (len(ordered) - 1)
    below = int(rank)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def ratio(ours: float, theirs: float) -> float | None:
    """Return ours over theirs; None when theirs is nothing."""
    return ours / theirs if theirs else None


def rounded(value: float | None) -> float | None:
    """Return a ratio to three places."""
    return None if value is None else round(value, 3)
