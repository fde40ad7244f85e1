"""Rows of a measurement: what was asked for, what came out, whether its whole interval clears the bar."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Column, Table

# Five samples lie on one side of their median in one case of sixteen: no interval of 95 %.
_FEWEST_ROUNDS = 6

Holds = bool | Literal["undecided", "not measured", "no bar"]


@dataclass(frozen=True)
class Row:
    """One figure; `low` and `high` bound the median's 95 % interval, `how` says under which settings it was taken."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    bar: str
    holds: Holds
    how: str


def read_rows(path: Path, topics: Sequence[str]) -> dict[str, list[Row]]:
    """The rows of the last run by topic, which is a name's first part; none where there was no run."""
    try:
        kept = [Row(**row) for row in json.loads(path.read_text())]
    except FileNotFoundError:
        return {}
    return {topic: [row for row in kept if row.name.startswith(f"{topic}/")] for topic in topics}


def describe_machine() -> str:
    """The machine of a figure, for its `how`."""
    return f"{os.cpu_count()} cores of {platform.processor() or platform.machine()}"


def median_interval(samples: Sequence[float]) -> tuple[float, float, float]:
    """Median and its 95 % interval by order statistics (ranks of the binomial distribution, no assumption on the shape)."""
    ordered = sorted(samples)
    n = len(ordered)
    # Largest k with P(Binomial(n, 1/2) < k) <= 2.5 %: the interval runs from the k-th smallest to the k-th largest.
    below, k = 0.5**n, 0
    term = below
    while below <= 0.025 and k < n // 2:
        k += 1
        term *= (n - k + 1) / k
        below += term
    return statistics.median(ordered), ordered[max(k - 1, 0)], ordered[min(n - k, n - 1)]


def judge(
    name: str,
    samples: Sequence[float],
    unit: str,
    how: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Row:
    """A row out of one sample a round; with one bound or none. Fewer rounds than an interval takes decide nothing."""
    value, low, high = median_interval(samples)
    if at_most is None and at_least is None:
        return Row(name, value, low, high, unit, "", "no bar", how)
    holds: Holds = "undecided"
    if len(samples) >= _FEWEST_ROUNDS:
        if at_least is not None:
            holds = True if low >= at_least else False if high < at_least else "undecided"
        elif at_most is not None:
            holds = True if high <= at_most else False if low > at_most else "undecided"
    bar = f">= {at_least:g}" if at_least is not None else f"<= {at_most:g}"
    return Row(name, value, low, high, unit, bar, holds, how)


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Writes the rows as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    draft.rename(path)


def publish(
    rows: Sequence[Row], path: Path, title: str, *, show: Sequence[Row] | None = None, middle: str = "median"
) -> None:
    """Writes the rows and prints them (or `show` of them) as a table."""
    write_rows(rows, path)
    table = Table(
        Column("figure", no_wrap=True), middle, "95 % interval", "unit", "bar", "holds", title=title
    )
    for row in rows if show is None else show:
        between = "" if row.low is None or row.high is None else f"{row.low:.4g} to {row.high:.4g}"
        value = "" if row.value is None else f"{row.value:.4g}"
        table.add_row(row.name, value, between, row.unit, row.bar, str(row.holds))
    # Piped into a file, a table is not folded at 80 columns.
    Console(width=None if sys.stdout.isatty() else 160).print(table)
