"""Rows of the quality report, out of what `shared.training.evaluation` gives.

`holds` is true only where the whole 95 % interval clears the bar, false where all of it misses it, else undecided.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from shared.training.evaluation.interval import Interval, over_seeds
from shared.training.evaluation.paired import Comparison
from tests.benchmarks.report import Holds, Row


def rate(
    name: str,
    interval: Interval,
    unit: str,
    how: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Row:
    """A row of any figure with its interval; with one bound or none."""
    value, low, high = interval.value, interval.low, interval.high
    if at_least is not None:
        holds: Holds = True if low >= at_least else False if high < at_least else "undecided"
        return Row(name, value, low, high, unit, f">= {at_least:g}", holds, how)
    if at_most is not None:
        holds = True if high <= at_most else False if low > at_most else "undecided"
        return Row(name, value, low, high, unit, f"<= {at_most:g}", holds, how)
    return Row(name, value, low, high, unit, "", "no bar", how)


def exact(
    name: str,
    value: float,
    unit: str,
    how: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Row:
    """A row of a figure without chance in it: a count, a size, a largest difference."""
    return rate(name, Interval(value, value, value), unit, how, at_least=at_least, at_most=at_most)


def seeds(
    name: str,
    values: Sequence[float],
    unit: str,
    how: str,
    *,
    items: int | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Iterator[Row]:
    """Two rows, `<name>` (mean over the seeds) and `<name>/worst`; every value stands in `how`.

    items: of the held-out set, where the values are shares of it: what another draw of items would change is then part of
    the interval, not only what another seed does.
    """
    mean = over_seeds(list(values))
    half = (mean.high - mean.low) / 2
    if items is not None:
        half = math.hypot(half, 1.96 * math.sqrt(max(mean.value * (1 - mean.value), 0.0) / items))
    listed = f"{how}; {len(values)} seeds: {', '.join(f'{value:.4f}' for value in values)}"
    yield rate(
        name,
        Interval(mean.value, mean.value - half, mean.value + half),
        unit,
        listed,
        at_least=at_least,
        at_most=at_most,
    )
    worst = min(values) if at_most is None else max(values)
    yield exact(f"{name}/worst", worst, unit, listed)


def against(name: str, comparison: Comparison, how: str, *, at_least: float | None = 0.0) -> Row:
    """The model minus its rival on the same items, in accuracy; by default it must not be worse."""
    said = f"{how}; McNemar exact p {comparison.p_value:.2g}, alone right {comparison.only_a} and {comparison.only_b}"
    return rate(name, comparison.difference, "accuracy", said, at_least=at_least)


def not_measured(name: str, unit: str, bar: str, why: str) -> Row:
    """A figure that was asked for and could not be taken here."""
    return Row(name, None, None, None, unit, bar, "not measured", why)
