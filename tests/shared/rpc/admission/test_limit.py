"""The limit of one model, on a simulated clock."""

from __future__ import annotations

import pytest

from shared.rpc.admission.limit import Limit
from tests.shared.rpc.admission.simulation import Model, closed_load, open_load

MIN_IN_FLIGHT = 64
MAX_QUEUE_WAIT_S = 1.0
SLOW = Model(0.02)
BATCHED = Model(0.02, rows=32)


def make_limit() -> Limit:
    return Limit(MIN_IN_FLIGHT, MAX_QUEUE_WAIT_S, 0.0)


@pytest.mark.parametrize("poisson", [True, False])
@pytest.mark.parametrize("times", [3, 10])
def test_beyond_saturation_goodput_and_latency_stay(times: int, *, poisson: bool) -> None:
    outcome = open_load(make_limit(), SLOW, lambda _: times * 50.0, poisson=poisson)
    assert outcome.answered > 0.95 * 50 * 50
    # One call runs, one waits.
    assert outcome.percentile_s(0.99) < 2.05 * SLOW.run_s


def test_a_model_that_batches_keeps_its_batches_full() -> None:
    outcome = open_load(make_limit(), BATCHED, lambda _: 3 * 1600.0)
    assert outcome.answered > 0.95 * 50 * 1600
    assert outcome.percentile_s(0.99) < 2.05 * BATCHED.run_s


def test_just_beyond_saturation_little_is_lost() -> None:
    outcome = open_load(make_limit(), SLOW, lambda _: 1.2 * 50.0)
    assert outcome.answered > 0.9 * 50 * 50
    assert outcome.percentile_s(0.99) < 0.5


@pytest.mark.parametrize("model", [SLOW, BATCHED, Model(0.001)])
def test_below_saturation_nobody_is_refused(model: Model) -> None:
    outcome = open_load(make_limit(), model, lambda _: 0.9 * model.rows / model.run_s, duration_s=30.0)
    assert outcome.refused == 0


def test_after_an_overload_nobody_is_refused() -> None:
    outcome = open_load(
        make_limit(), SLOW, lambda now_s: 150.0 if now_s < 20 else 40.0, duration_s=60.0, warm_up_s=30.0
    )
    assert outcome.refused == 0
    assert outcome.answered > 0.9 * 30 * 40


@pytest.mark.parametrize("run_s", [0.0002, 0.02, 2.0])
def test_as_many_callers_as_are_promised_are_never_refused(run_s: float) -> None:
    outcome = closed_load(make_limit(), Model(run_s), MIN_IN_FLIGHT, duration_s=300 * run_s)
    assert outcome.refused == 0
    assert outcome.most_in_flight == MIN_IN_FLIGHT


@pytest.mark.parametrize(("run_s", "callers"), [(0.0005, MIN_IN_FLIGHT), (0.002, 16)])
def test_after_an_overload_the_callers_of_a_tiny_model_are_not_refused(run_s: float, callers: int) -> None:
    limit = make_limit()
    model = Model(run_s)
    closed_load(limit, model, 3000, duration_s=5.0)
    assert limit.overloaded
    while limit.in_flight:
        limit.leave("", 5.0, urgent=True)
    outcome = closed_load(limit, model, callers, duration_s=20.0, from_s=5.0)
    assert outcome.refused == 0
    assert not limit.overloaded


def test_a_pause_of_the_machine_in_overload_refuses_no_callers_of_a_tiny_model() -> None:
    limit = make_limit()
    closed_load(limit, Model(0.0005), 3000, duration_s=5.0)
    bound, now_s = limit.bound, 8.0
    for _ in range(4):
        limit.record(0.001, 0.001, now_s)
    assert limit.overloaded
    assert limit.bound > bound / 2


def test_more_callers_than_a_model_can_answer_in_time_are_refused_and_keep_it_busy() -> None:
    outcome = closed_load(make_limit(), SLOW, 200)
    assert outcome.answered > 0.95 * 60 * 50
    assert outcome.refused > 0


def test_the_queue_stays_within_its_bound_before_overload_is_known() -> None:
    outcome = open_load(make_limit(), Model(0.001), lambda _: 3000.0, duration_s=5.0, warm_up_s=0.0)
    assert outcome.most_in_flight <= MAX_QUEUE_WAIT_S / 0.001 + 1


def make_overloaded(*, leave: bool = True) -> tuple[Limit, float]:
    """A limit of 20 ms runs that was overloaded, by calls of `noisy` that have left or are still there; and the time."""
    limit = Limit(4, 0.1, 0.0)
    now_s = 0.0
    while not limit.overloaded:
        now_s += 0.02
        limit.enter("noisy", now_s, urgent=True)
        limit.record(2.0, 0.02, now_s)
    while leave and limit.in_flight:
        limit.leave("noisy", now_s, urgent=True)
    return limit, now_s


def fill(limit: Limit, principal: str, now_s: float, *, urgent: bool) -> float:
    """Lets in as many calls of a principal as get in, one in 20 ms. Returns the time."""
    while limit.enter(principal, now_s, urgent=urgent):
        now_s += 0.02
    return now_s


def test_who_waits_in_overload_waits_for_less_than_a_run() -> None:
    limit, now_s = make_overloaded()
    assert limit.bound == 2
    assert limit.enter("", now_s, urgent=True)
    assert not limit.enter("", now_s + 0.002, urgent=True)
    assert limit.enter("", now_s + 0.01, urgent=True)


def test_in_overload_who_has_less_than_his_share_gets_in_and_who_has_more_does_not() -> None:
    limit, now_s = make_overloaded()
    now_s = fill(limit, "noisy", now_s, urgent=True)
    assert limit.in_flight == limit.bound
    assert limit.enter("quiet", now_s, urgent=True)
    assert not limit.enter("noisy", now_s, urgent=True)


def test_a_burst_that_waits_keeps_nobody_else_out() -> None:
    limit, now_s = make_overloaded(leave=False)
    assert limit.in_flight > 2 * limit.bound
    assert not limit.enter("noisy", now_s, urgent=True)
    assert not limit.enter("batch", now_s, urgent=False)
    for _ in range(limit.bound):
        assert limit.enter("quiet", now_s, urgent=True)
    assert not limit.enter("quiet", now_s, urgent=True)


def test_in_overload_any_number_of_principals_stays_below_twice_the_limit() -> None:
    limit, now_s = make_overloaded()
    for index in range(100):
        limit.enter(f"principal {index}", now_s, urgent=True)
    assert limit.in_flight == 2 * limit.bound


def test_in_overload_batch_is_refused_before_interactive() -> None:
    limit, now_s = make_overloaded()
    now_s = fill(limit, "batch", now_s, urgent=False)
    assert limit.in_flight == limit.bound
    now_s = fill(limit, "interactive", now_s, urgent=True)
    assert limit.urgent == limit.bound
    assert not limit.enter("another batch", now_s, urgent=False)


def test_a_queue_that_is_full_behind_the_door_is_overload() -> None:
    limit = make_limit()
    now_s = 0.0
    while not limit.in_service:
        now_s += 0.01
        limit.enter("", now_s, urgent=True)
        limit.record(0.5, 0.02, now_s)
    while limit.in_flight <= MIN_IN_FLIGHT:
        limit.enter("", now_s, urgent=True)
    assert not limit.overloaded
    limit.overflow(now_s)
    assert not limit.enter("", now_s, urgent=True)


def test_refused_callers_are_told_to_come_back_at_different_times() -> None:
    limit, _ = make_overloaded()
    advice = [limit.suggest_retry_s() for _ in range(10)]
    assert len(set(advice)) == 10
    assert all(0 < retry_s < 10 for retry_s in advice)


def test_overload_is_forgotten_when_nobody_comes() -> None:
    limit, now_s = make_overloaded()
    now_s += 60
    for _ in range(20):
        assert limit.enter("noisy", now_s, urgent=True)


def test_overload_is_over_for_the_first_who_come_after_quiet_seconds() -> None:
    limit, now_s = make_overloaded()
    # One call goes on, so that the model is never without work; no window of measurement ends.
    assert limit.enter("slow", now_s, urgent=True)
    for index in range(20):
        assert limit.enter(f"caller {index % 2}", now_s + 6.0, urgent=True)
