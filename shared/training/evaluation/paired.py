"""Two models on the same items: whether one is better, or chance would do.

Lives here: tests and intervals of the difference. Not here: figures of one model (`metrics.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.training.evaluation.interval import Interval, bootstrap


@dataclass(frozen=True)
class Comparison:
    """A against B on the same items."""

    difference: Interval  # accuracy of A minus accuracy of B, 95 % by paired bootstrap
    p_value: float  # McNemar's exact test, two-sided
    only_a: int  # items that A alone got right
    only_b: int

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `no difference shown`, at 5 %."""
        if self.p_value >= 0.05:
            return "no difference shown"
        return "better" if self.only_a > self.only_b else "worse"


def compare(
    correct_a: NDArray[Any], correct_b: NDArray[Any], *, clusters: NDArray[Any] | None = None, seed: int = 0
) -> Comparison:
    """Compare two models by which items each got right, bool [items] both.

    clusters: one key per item where items are not independent; the interval then draws whole clusters (the exact test
    takes items as independent, so believe the interval).
    """
    a, b = np.asarray(correct_a, bool), np.asarray(correct_b, bool)
    if a.shape != b.shape or not len(a):
        raise ValueError(f"expected the same items for both and an item, got {len(a)} and {len(b)}")
    gain = a.astype(np.float64) - b
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return Comparison(
        difference=bootstrap(
            lambda drawn: float(gain[drawn].mean()), len(gain), clusters=clusters, seed=seed
        ),
        p_value=mcnemar(only_a, only_b),
        only_a=only_a,
        only_b=only_b,
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p value of McNemar's exact test: of the items on which they differ, each is as likely to be right."""
    from scipy.stats import binomtest

    return 1.0 if only_a + only_b == 0 else float(binomtest(only_a, only_a + only_b).pvalue)
