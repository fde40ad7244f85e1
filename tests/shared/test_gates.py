"""Gates: bounds, the paired comparison, and honesty about ties and few items."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest

from shared.gates import MARGIN, Bound, Finding, Paired, Verdict, admits, judge

NOT_WORSE = "not worse"


def paired(items: int, gained: int = 0, lost: int = 0, neither: int = 0) -> Paired:
    return Paired(items - gained - lost - neither, lost, gained, neither)


def judge_paired(found: Paired, margin: float = 0.02) -> Verdict:
    (finding,) = judge({}, [], found, margin=margin)
    assert finding.gate == NOT_WORSE
    return finding.verdict


def test_answers_are_counted_in_pairs() -> None:
    old, new = [True, True, False, False, True], [True, False, True, False, True]
    assert Paired.count(old, new) == Paired(2, 1, 1, 1)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        Paired.count(old, new[1:])


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (3, 9), (10, 10), (40, 12), (0, 7)])
def test_the_exact_test_is_the_binomial_one(gained: int, lost: int) -> None:
    n, k = gained + lost, min(gained, lost)
    tail = Fraction(sum(math.comb(n, i) for i in range(k + 1)), 2**n)
    assert paired(100, gained, lost).p_value == pytest.approx(float(min(Fraction(1), 2 * tail)), rel=1e-9)


def test_the_exact_test_of_many_items() -> None:
    assert paired(100_000, 5_000, 5_000).p_value == pytest.approx(1.0)
    assert paired(100_000, 6_000, 5_000).p_value < 1e-15


def test_the_interval_is_the_published_one() -> None:
    """Tango's own example: 44 patients, of whom one was helped by one treatment only."""
    low, high = Paired(43, 0, 1, 0).interval
    assert (low, high) == (pytest.approx(-0.0594, abs=1e-4), pytest.approx(0.1181, abs=1e-4))


@pytest.mark.parametrize("items", [1, 5, 44, 1000])
def test_of_equal_answers_the_interval_shrinks_with_the_items(items: int) -> None:
    z2 = 1.959964**2
    low, high = paired(items).interval
    assert high == pytest.approx(z2 / (items + z2), abs=1e-6)
    assert low == pytest.approx(-high, abs=1e-9)


def test_the_interval_turns_around_with_the_versions() -> None:
    low, high = paired(300, 20, 35).interval
    turned = paired(300, 35, 20).interval
    assert (-turned[1], -turned[0]) == (pytest.approx(low), pytest.approx(high))


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """400 sets of 60 items whose true difference is known: a loss of 5 points."""
    rng = random.Random(5)
    held = 0
    for _ in range(400):
        drawn = [rng.random() for _ in range(60)]
        gained, lost = sum(one < 0.05 for one in drawn), sum(one > 0.90 for one in drawn)
        low, high = paired(60, gained, lost).interval
        held += low <= -0.05 <= high
    assert held >= 0.92 * 400


def test_nothing_compared_says_nothing() -> None:
    assert Paired(0, 0, 0, 0).interval == (-1.0, 1.0)
    assert judge_paired(Paired(0, 0, 0, 0)) is Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (paired(1000), Verdict.PASSED),
        (paired(1000, 30, 10), Verdict.PASSED),
        (paired(1000, 10, 12), Verdict.PASSED),
        (paired(1000, 10, 60), Verdict.FAILED),
        (paired(20, 0, 8), Verdict.FAILED),
        # Equal answers to few items show little, and so does a small loss among them.
        (paired(5), Verdict.UNDECIDED),
        (paired(100), Verdict.UNDECIDED),
        (paired(200), Verdict.PASSED),
        (paired(50, 1, 3), Verdict.UNDECIDED),
        # Few items can show a gain.
        (paired(10, 9, 0), Verdict.PASSED),
    ],
)
def test_not_worse(found: Paired, verdict: Verdict) -> None:
    assert judge_paired(found) is verdict


# 2,000 items, 0.55 points worse: the interval is -1.00 to -0.24.
WORSE = paired(2000, 1, 12)


@pytest.mark.parametrize(
    ("found", "margin", "verdict", "says"),
    [
        (
            WORSE,
            0.05,
            Verdict.PASSED,
            "it is worse, by less than the 5 points that may be lost: -0.55 points",
        ),
        (WORSE, MARGIN, Verdict.UNDECIDED, "it is worse, and a loss of 0.5 points cannot be ruled out"),
        (WORSE, 0.001, Verdict.FAILED, "it is worse, by more than the 0.1 points that may be lost"),
        (WORSE, 0.0, Verdict.FAILED, "it is worse, by more than the 0 points"),
        (paired(10_000, 10, 90), MARGIN, Verdict.FAILED, "it is worse"),
        (paired(40, 1, 2), 1.0, Verdict.PASSED, "-2.50 points"),
        # Without a margin only a gain that is shown will do.
        (paired(10_000), 0.0, Verdict.UNDECIDED, "cannot be ruled out"),
        (paired(1000, 30, 10), 0.0, Verdict.PASSED, "it is better"),
        # As many as the module says.
        (paired(764), MARGIN, Verdict.UNDECIDED, "only one of 0.50"),
        (paired(765), MARGIN, Verdict.PASSED, "+0.00 points"),
    ],
)
def test_the_interval_is_held_against_the_margin(
    found: Paired, margin: float, verdict: Verdict, says: str
) -> None:
    (finding,) = judge({}, [], found, margin=margin)
    assert finding.verdict is verdict
    assert says in finding.reason


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [
        (0.84, 0.84, None, Verdict.PASSED),
        (0.8399, 0.84, None, Verdict.FAILED),
        (0.1, None, 0.05, Verdict.FAILED),
        (0.05, 0.01, 0.05, Verdict.PASSED),
        (math.nan, 0.1, None, Verdict.FAILED),
        (math.nan, None, None, Verdict.FAILED),
        (None, 0.1, None, Verdict.FAILED),
    ],
)
def test_bounds(value: float | None, low: float | None, high: float | None, verdict: Verdict) -> None:
    metrics = {} if value is None else {"accuracy": value}
    (finding,) = judge(metrics, [Bound("accuracy", low, high, "agreed")], None)
    assert (finding.gate, finding.verdict) == ("accuracy", verdict)
    assert "agreed" in finding.reason


def test_one_failure_is_enough_and_what_is_undecided_must_be_accepted() -> None:
    passed, failed, undecided = (Finding("gate", verdict, "") for verdict in Verdict)
    assert admits([passed])
    assert not admits([passed, failed], accept_undecided=True)
    assert not admits([passed, undecided])
    assert admits([passed, undecided], accept_undecided=True)
