"""Factors of the learning rate over a training."""

from __future__ import annotations

import pytest

from shared.training.schedule import Schedule, constant, cosine, linear


@pytest.mark.parametrize(
    "schedule", [constant(0.1), cosine(0.1), linear(0.1), cosine(), linear(), constant()]
)
def test_factors_stay_within_bounds_and_start_above_zero(schedule: Schedule) -> None:
    factors = [schedule(n / 1000) for n in range(1001)]
    assert min(factors[:-1]) > 0
    assert factors[-1] >= 0
    assert max(factors) <= 1


def test_after_the_rise_each_falls_as_it_is_named() -> None:
    assert [constant(0.2)(x) for x in (0.2, 0.6, 1)] == [1, 1, 1]
    assert [cosine(0.2)(x) for x in (0.2, 0.6, 1)] == pytest.approx([1, 0.5, 0])
    assert [linear(0.2)(x) for x in (0.2, 0.4, 0.6, 1)] == pytest.approx([1, 0.75, 0.5, 0])
    assert [fall(final=0.1)(1.0) for fall in (cosine, linear)] == pytest.approx([0.1, 0.1])
    assert constant(0.2)(0.1) == pytest.approx(0.5, abs=0.01)
