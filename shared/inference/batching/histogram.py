"""A distribution as counts between fixed bounds, cheap enough for every item.

Not here: what is measured (`statistics.py`), how it is shown (Prometheus' collector over the repository).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

__all__ = ["ROWS_BOUNDS", "SECONDS_BOUNDS", "Histogram"]

# From a tiny graph's run to a call's longest wait, three to a decade.
SECONDS_BOUNDS = tuple(float(f"{step}e{power}") for power in range(-5, 2) for step in (1, 2, 5))
ROWS_BOUNDS = tuple(float(2**power) for power in range(9))


class Histogram:
    """How many values lay at or below each bound but above the one before. Not thread-safe."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` rise; what lies above the last is counted too."""
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0  # sum of the values

    def record(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[float, int]]:
        """Each bound with the number of values at or below it, the last one's being infinity."""
        counted, pairs = 0, []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            counted += count
            pairs.append((bound, counted))
        return pairs
