"""Series of measurements in five numbers, how two of them compare, and results as JSON."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, ClassVar

import numpy as np


def as_json(value: object) -> Any:
    """Return a result as JSON takes it: a dataclass as an object, numbers rounded to three places.

    The object has the fields of the class without those declared with `repr=False`, and the properties that it names in
    `DESCRIBED`. A class with a method `described` is asked for its own form.
    """
    if hasattr(value, "described"):
        return value.described()
    if is_dataclass(value):
        names = [field.name for field in fields(value) if field.repr]
        return {name: as_json(getattr(value, name)) for name in (*names, *getattr(value, "DESCRIBED", ()))}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value


@dataclass(frozen=True, slots=True)
class Summary:
    """A series in five numbers, in the unit of the series."""

    n: int
    median: float
    p95: float
    max: float
    mean: float


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of both sides; `theirs` is None when only ours was measured."""

    DESCRIBED: ClassVar = ("ratio",)

    ours: Summary
    theirs: Summary | None = None

    @property
    def ratio(self) -> dict[str, float | None] | None:
        """Our median and 95th percentile over theirs, None where theirs is 0; under 1 is ours the smaller."""
        if self.theirs is None:
            return None
        pairs = {name: (getattr(self.ours, name), getattr(self.theirs, name)) for name in ("median", "p95")}
        return {name: ours / theirs if theirs else None for name, (ours, theirs) in pairs.items()}

    @property
    def median_ratio(self) -> float | None:
        """Our median over theirs."""
        return self.ratio["median"] if self.ratio else None


def summarise(values: Sequence[float]) -> Summary:
    """Return the five numbers of `values`; raises `ValueError` when there are none."""
    if not values:
        raise ValueError("nothing was measured")
    p95 = float(np.percentile(values, 95))  # between neighbours in proportion, as wyoming-bench does
    return Summary(len(values), statistics.median(values), p95, max(values), statistics.fmean(values))
