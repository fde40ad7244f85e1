"""How long the runs of one graph take, learned from those that were measured.

Here: arithmetic. Not here: what a run costs (`shape.py`), what follows from its time (`queue.py`, `batcher.py`).
"""

from __future__ import annotations

__all__ = ["Pace"]

# Weight of the newest run in the running means: about the last ten runs count.
_NEWEST = 0.1
# A run that takes so many times what was expected was held up from outside: it counts as this much. A graph that has
# really become slower is believed after a few runs.
_OUTLIER = 4.0
# Runs before outliers can be told.
_TRUSTED_RUNS = 5
# What is known beforehand of how the time splits weighs as much as runs whose costs vary by a fifth: runs of equal cost
# say nothing of it, and their noise must not.
_PRIOR_VARIANCE = 0.04


class Pace:
    """The time of a run as `fixed_s + s_per_cost * cost`, a line through the latest runs.

    Both are 0 until something is known. Written by the threads that run, read by all: each is one number, and a run
    that is lost between two threads is no loss.
    """

    __slots__ = ("_cost", "_cost_s", "_proportional", "_s", "_squared", "fixed_s", "runs", "s_per_cost")

    def __init__(self) -> None:
        self.fixed_s = 0.0
        self.s_per_cost = 0.0
        self.runs = 0
        # Which share of a run's time goes with its cost, by what was known beforehand: as a ratio of the fixed part to
        # the time of one unit of cost.
        self._proportional = 0.0
        # Running means: of cost and seconds, of their product, and of the square of the cost.
        self._cost = self._s = self._cost_s = self._squared = 0.0

    @property
    def known(self) -> bool:
        """Whether there is anything to go by."""
        return self.s_per_cost > 0 or self.fixed_s > 0

    def run_s(self, cost: float) -> float:
        """Seconds that a run of this cost is expected to take; 0 as long as nothing is known."""
        return self.fixed_s + self.s_per_cost * cost

    def seed(self, fixed_s: float, s_per_cost: float) -> None:
        """Begin with what was measured apart from the runs; they outweigh it, but for how the time splits in two."""
        self._proportional = fixed_s / s_per_cost if s_per_cost > 0 else 0.0
        if not self.runs:
            self.fixed_s, self.s_per_cost = fixed_s, s_per_cost

    def learn(self, cost: float, taken_s: float) -> None:
        """Take in one run of this cost, at least some of it."""
        runs = self.runs = self.runs + 1
        if runs > _TRUSTED_RUNS:
            taken_s = min(taken_s, _OUTLIER * (self.fixed_s + self.s_per_cost * cost))
        weight = max(1.0 / runs, _NEWEST)
        mean = self._cost = self._cost + weight * (cost - self._cost)
        mean_s = self._s = self._s + weight * (taken_s - self._s)
        self._squared += weight * (cost * cost - self._squared)
        self._cost_s += weight * (cost * taken_s - self._cost_s)
        prior = _PRIOR_VARIANCE * mean * mean
        # What the line would be if the split known beforehand were right.
        slope = mean_s / (mean + self._proportional)
        slope = (self._cost_s - mean * mean_s + prior * slope) / (self._squared - mean * mean + prior)
        # Neither part of a run takes less than no time.
        self.s_per_cost = slope = min(max(slope, 0.0), mean_s / mean)
        self.fixed_s = mean_s - slope * mean
