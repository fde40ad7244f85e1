"""Gates: what a version of a model must clear before it takes over from another, as pure functions of what was measured.

The rule of a comparison is non-inferiority: how much of accuracy may be lost at most is agreed on beforehand, as the margin,
and the 95 % interval of the difference on the same items is held against it. Its lower end above -margin: passed. Its upper
end below -margin: failed. Else the items do not tell: undecided, which lets nobody in by itself. So a candidate that has
lost more never gets in for want of items, and two that are equally good need enough items to show it: alike in all their
answers 765 for the default margin, more where they differ. A loss within the margin passes even where it is beyond doubt,
and the reason then says that it is worse; whoever wants none of that agrees on a smaller margin.

The same judgement is for a promotion, which compares two versions on held-out items, and for a canary, which compares them
on live calls. Not here: measuring (`cli.registry`), routing. Standard library only: the gateway must be able to import it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist

# Of intervals: two-sided.
CONFIDENCE = 0.95
# How much of accuracy a successor may lose at most. A successor is not to be worse: this is what the held-out sets of one
# to ten thousand items can tell from nothing.
MARGIN = 0.005


class Verdict(Enum):
    """What a gate says."""

    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"  # what was measured is too little to tell


@dataclass(frozen=True)
class Finding:
    """One gate's verdict, and why in words."""

    gate: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Bound:
    """What a metric must be: at least `low`, at most `high`; `source` says who agreed on it."""

    metric: str
    low: float | None
    high: float | None
    source: str


@dataclass(frozen=True)
class Paired:
    """Two versions' answers to the same items: how many both got right, only the old, only the new, neither."""

    both: int
    only_old: int
    only_new: int
    neither: int

    @classmethod
    def count(cls, old: Iterable[bool], new: Iterable[bool]) -> Paired:
        """From whether each item was answered right, by the old version and by the new one.

        Raises:
            ValueError: they are not answers to the same items.
        """
        counts = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
        for pair in zip(old, new, strict=True):
            counts[pair] += 1
        return cls(counts[True, True], counts[True, False], counts[False, True], counts[False, False])

    @property
    def items(self) -> int:
        """How many."""
        return self.both + self.only_old + self.only_new + self.neither

    @property
    def difference(self) -> float:
        """The new version's accuracy minus the old one's."""
        return (self.only_new - self.only_old) / self.items if self.items else 0.0

    @property
    def p_value(self) -> float:
        """McNemar's exact test, two-sided: how likely so uneven a split of the items they differ on is among equals."""
        differing, fewer = self.only_old + self.only_new, min(self.only_old, self.only_new)
        if differing == 0:
            return 1.0
        # In logarithms: 2 ** -1075 is no number any more.
        terms = [
            math.lgamma(differing + 1)
            - math.lgamma(k + 1)
            - math.lgamma(differing - k + 1)
            - differing * math.log(2)
            for k in range(fewer + 1)
        ]
        return min(1.0, 2 * math.fsum(math.exp(term) for term in terms))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference by its score test (Tango, Statistics in Medicine 17, 1998).

        It stays honest where both versions give the same answers: of n items that are alike it says ± 3.8 / (n + 3.8),
        while a bootstrap would claim certainty.
        """
        if not self.items:
            return -1.0, 1.0
        z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
        # The score falls as the supposed difference grows.
        return self._solve(z), self._solve(-z)

    def _solve(self, wanted: float) -> float:
        low, high = -1.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            if self._score(middle) > wanted:
                low = middle
            else:
                high = middle
        return (low + high) / 2

    def _score(self, supposed: float) -> float:
        """The distance of what was seen from a supposed difference, in standard errors under that supposition."""
        n, gained, lost = self.items, self.only_new, self.only_old
        # The most likely share of items that only the old version gets right, were the difference the supposed one.
        b = -gained - lost + (2 * n - gained + lost) * supposed
        c = -lost * supposed * (1 - supposed)
        share = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = n * (2 * share + supposed * (1 - supposed))
        distance = gained - lost - n * supposed
        if variance <= 1e-12:
            return 0.0 if abs(distance) < 1e-9 else math.copysign(math.inf, distance)
        return distance / math.sqrt(variance)


def judge(
    metrics: Mapping[str, float], bounds: Sequence[Bound], paired: Paired | None, *, margin: float = MARGIN
) -> list[Finding]:
    """Every gate's verdict: each bound by the metrics, and by the paired answers that the new version is not worse.

    A bound on a metric that was not measured is not cleared. `paired` None: there is nothing to compare with.
    """
    findings = [_judge_bound(bound, metrics.get(bound.metric)) for bound in bounds]
    if paired is not None:
        findings.append(_judge_paired(paired, margin))
    return findings


def admits(findings: Iterable[Finding], *, accept_undecided: bool = False) -> bool:
    """Whether what was found lets a version take over."""
    verdicts = {finding.verdict for finding in findings}
    return Verdict.FAILED not in verdicts and (accept_undecided or Verdict.UNDECIDED not in verdicts)


def _judge_bound(bound: Bound, value: float | None) -> Finding:
    said = " and ".join(
        f"at {word} {limit:g}"
        for word, limit in (("least", bound.low), ("most", bound.high))
        if limit is not None
    )
    wanted = f"expected {said} ({bound.source})"
    if value is None:
        return Finding(bound.metric, Verdict.FAILED, f"{wanted}, and it was not measured")
    # Not a number clears nothing.
    cleared = (bound.low is None or value >= bound.low) and (bound.high is None or value <= bound.high)
    cleared = cleared and not math.isnan(value)
    return Finding(bound.metric, Verdict.PASSED if cleared else Verdict.FAILED, f"{wanted}, got {value:.4f}")


def _judge_paired(paired: Paired, margin: float) -> Finding:
    low, high = paired.interval
    interval = f"{100 * low:+.2f} to {100 * high:+.2f}"
    seen = (
        f"{100 * paired.difference:+.2f} points on {paired.items} items (95 % interval {interval}; "
        f"{paired.only_new} gained, {paired.only_old} lost, McNemar p = {paired.p_value:.3g})"
    )
    gate, allowed = "not worse", f"the {100 * margin:g} points that may be lost"
    if low > -margin:
        if high < 0:
            seen = f"it is worse, by less than {allowed}: {seen}"
        elif low > 0:
            seen = f"it is better: {seen}"
        return Finding(gate, Verdict.PASSED, seen)
    if high < -margin:
        return Finding(gate, Verdict.FAILED, f"it is worse, by more than {allowed}: {seen}")
    worse = "it is worse, and " if high < 0 else ""
    needed = f"{worse}a loss of {100 * margin:g} points cannot be ruled out, only one of {-100 * low:.2f}"
    return Finding(gate, Verdict.UNDECIDED, f"{needed}: {seen}")
