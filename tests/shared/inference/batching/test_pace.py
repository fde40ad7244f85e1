"""Times of runs are learned, and no single one of them upsets what is known."""

from __future__ import annotations

import random

import pytest

from shared.inference.batching.pace import Pace


def test_nothing_is_known_at_first() -> None:
    pace = Pace()
    assert not pace.known
    assert pace.run_s(1000) == 0


def test_both_parts_of_a_runs_time_are_found() -> None:
    pace = Pace()
    rng = random.Random(1)
    for _ in range(200):
        cost = rng.randint(1, 100)
        pace.learn(cost, 0.002 + 0.0001 * cost)
    assert pace.fixed_s == pytest.approx(0.002, rel=0.1)
    assert pace.s_per_cost == pytest.approx(0.0001, rel=0.1)


def test_runs_of_one_cost_say_how_long_they_take_and_nothing_more() -> None:
    pace = Pace()
    for _ in range(20):
        pace.learn(10, 0.05)
    assert pace.run_s(10) == pytest.approx(0.05)
    assert pace.fixed_s == 0


def test_what_loading_measured_splits_the_time_of_runs_of_one_cost() -> None:
    pace = Pace()
    pace.seed(0.001, 0.001)
    assert pace.run_s(9) == pytest.approx(0.01)
    for _ in range(50):
        pace.learn(9, 0.02)  # the machine is half as fast as it was then
    assert pace.run_s(9) == pytest.approx(0.02)
    assert pace.fixed_s == pytest.approx(0.002, rel=0.05)


def test_parts_are_never_below_nothing() -> None:
    pace = Pace()
    rng = random.Random(2)
    for _ in range(100):
        pace.learn(rng.randint(1, 50), rng.random())
        assert pace.fixed_s >= -1e-12
        assert pace.s_per_cost >= 0


def test_a_run_that_was_held_up_counts_as_a_slow_one() -> None:
    pace = Pace()
    for _ in range(20):
        pace.learn(1, 0.001)
    pace.learn(1, 60.0)
    assert pace.run_s(1) < 0.0014


def test_a_graph_that_became_slower_is_believed() -> None:
    pace = Pace()
    for _ in range(20):
        pace.learn(1, 0.001)
    for _ in range(40):
        pace.learn(1, 0.1)
    assert pace.run_s(1) == pytest.approx(0.1, rel=0.1)
