"""Intervals of figures, 95 % unless said otherwise.

Lives here: of shares and of anything that can be computed from items. Not here: differences between models (`paired.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.inference.manifest import Metric

ROUNDS = 2000  # of a bootstrap: the ends of a 95 % interval then wander by about a twentieth of its width


@dataclass(frozen=True)
class Interval:
    """A figure and the ends of its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def to_metric(self) -> Metric:
        """As the manifest holds it."""
        return Metric(value=self.value, low=min(self.low, self.value), high=max(self.high, self.value))


def wilson(successes: int, items: int, *, level: float = 0.95) -> Interval:
    """Interval of a share of independent items (Wilson 1927): never leaves 0 to 1, honest at few items and near the ends."""
    if items < 1 or not 0 <= successes <= items:
        raise ValueError(f"expected 0 <= successes <= items and an item, got {successes} of {items}")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = successes / items
    middle = (share + z * z / (2 * items)) / (1 + z * z / items)
    half = z / (1 + z * z / items) * math.sqrt(share * (1 - share) / items + z * z / (4 * items * items))
    return Interval(share, max(middle - half, 0.0), min(middle + half, 1.0))


def standard_error(values: NDArray[Any]) -> float:
    """Of the mean of independent values; of correct answers it is that of the accuracy."""
    values = np.asarray(values, np.float64)
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float],
    items: int,
    *,
    clusters: NDArray[Any] | None = None,
    rounds: int = ROUNDS,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of `statistic`, which is given indices of items, drawn with replacement.

    clusters: one key per item where items are not independent, a speaker for instance: whole clusters are drawn.
    """
    rng = np.random.default_rng(seed)
    everything = np.arange(items)
    value = float(statistic(everything))
    if clusters is None:
        drawn = [statistic(rng.integers(0, items, items)) for _ in range(rounds)]
    else:
        groups = [np.flatnonzero(clusters == key) for key in np.unique(clusters)]
        drawn = [
            statistic(np.concatenate([groups[index] for index in rng.integers(0, len(groups), len(groups))]))
            for _ in range(rounds)
        ]
    low, high = np.nanquantile(drawn, [0.5 - level / 2, 0.5 + level / 2])
    return Interval(value, float(low), float(high))


def over_seeds(values: NDArray[Any] | list[float]) -> Interval:
    """Mean over repetitions with other seeds, and Student's interval of that mean; a single one has none."""
    from scipy.stats import t

    samples = np.asarray(values, np.float64)
    mean = float(samples.mean())
    if len(samples) < 2:
        return Interval(mean, mean, mean)
    half = float(t.ppf(0.975, len(samples) - 1) * samples.std(ddof=1) / math.sqrt(len(samples)))
    return Interval(mean, mean - half, mean + half)
