"""Intervals hold what they promise: textbook values, and the truth in 95 of 100 draws."""

from __future__ import annotations

import numpy as np
import pytest

from shared.training.evaluation.interval import bootstrap, over_seeds, standard_error, wilson


@pytest.mark.parametrize(
    ("successes", "items", "low", "high"),
    # Newcombe 1998, table I.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_published_values(successes: int, items: int, low: float, high: float) -> None:
    interval = wilson(successes, items)
    assert interval.value == successes / items
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


def test_wilson_stays_within_its_bounds_and_refuses_nonsense() -> None:
    assert wilson(50, 50).high == 1.0
    assert wilson(50, 50).low < 1.0
    for successes, items in ((1, 0), (3, 2), (-1, 5)):
        with pytest.raises(ValueError, match="expected 0 <= successes <= items"):
            wilson(successes, items)


def test_the_standard_error_of_a_share() -> None:
    correct = np.arange(400) < 300
    assert standard_error(correct) == pytest.approx((0.75 * 0.25 / 399) ** 0.5)
    assert standard_error(np.array([1.0])) == 0.0


def test_a_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(100):
        values = rng.normal(2.0, 1.0, 80)
        found = bootstrap(lambda drawn, values=values: float(values[drawn].mean()), 80, rounds=200, seed=seed)
        held += found.low <= 2.0 <= found.high
    assert 86 <= held <= 100


def test_clusters_widen_an_interval_where_items_go_together() -> None:
    rng = np.random.default_rng(0)
    speakers = np.repeat(np.arange(20), 50)
    correct = rng.random(20)[speakers] > rng.random(1000)
    alone = bootstrap(lambda drawn: float(correct[drawn].mean()), 1000, rounds=500)
    together = bootstrap(lambda drawn: float(correct[drawn].mean()), 1000, rounds=500, clusters=speakers)
    assert together.value == alone.value
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_a_bootstrap_is_the_same_every_time() -> None:
    values = np.random.default_rng(0).random(50)
    first, second = (
        bootstrap(lambda drawn: float(np.median(values[drawn])), 50, rounds=100) for _ in range(2)
    )
    assert first == second


def test_over_seeds_is_students_interval() -> None:
    found = over_seeds([0.80, 0.82, 0.84, 0.81, 0.83])
    assert found.value == pytest.approx(0.82)
    # 2.776 * 0.0158 / sqrt(5)
    assert found.high - found.value == pytest.approx(0.01963, abs=1e-4)
    assert over_seeds([0.5]).low == 0.5
