"""The budget of cores: order, bound, patience."""

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from shared.inference.session.cores import CoreBudget

LIMIT_S = 10.0


def test_a_run_takes_half_of_its_threads_and_gives_them_back() -> None:
    budget = CoreBudget(4)
    with budget.use(5):
        assert budget.free == 1
        with budget.use(2):
            assert budget.free == 0
    assert budget.free == 4
    with budget.use(1):
        assert budget.free == 3


def test_more_threads_than_cores_take_all_of_them() -> None:
    budget = CoreBudget(2)
    with budget.use(16):
        assert budget.free == 0
    assert budget.free == 2


def test_a_failed_run_gives_its_cores_back() -> None:
    budget = CoreBudget(2)
    with pytest.raises(ZeroDivisionError), budget.use(4):
        _ = 1 / 0
    assert budget.free == 2


def test_a_budget_of_no_cores_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        CoreBudget(0)


def test_who_came_first_runs_first_however_many_threads_it_wants() -> None:
    budget = CoreBudget(2, patience_s=LIMIT_S)
    order: list[int] = []
    entered = [threading.Event() for _ in range(4)]

    def run(number: int, threads: int) -> None:
        entered[number].set()
        with budget.use(threads):
            order.append(number)

    with ThreadPoolExecutor(4) as pool:
        with budget.use(1):
            # The first of them wants both cores; the others want the one that is free, and came later.
            futures = []
            for number, threads in enumerate((4, 1, 1, 1)):
                futures.append(pool.submit(run, number, threads))
                assert entered[number].wait(LIMIT_S)
                _wait_until_waiting(budget, number + 1)
            assert order == []
        assert not wait(futures, LIMIT_S).not_done
    assert order[0] == 0
    assert sorted(order) == [0, 1, 2, 3]
    assert budget.free == 2


def test_nobody_waits_longer_than_the_patience_for_a_run_that_hangs() -> None:
    budget = CoreBudget(2, patience_s=0.01)
    budget.take(2)
    with budget.use(4):
        assert budget.free == -2
    assert budget.free == 0
    budget.give_back(2)
    assert budget.free == 2


def test_many_threads_never_use_more_cores_than_there_are() -> None:
    budget = CoreBudget(3, patience_s=LIMIT_S)
    lock = threading.Lock()
    running, most = 0, 0

    def run(number: int) -> None:
        nonlocal running, most
        cores = 1 + number % 3
        for _ in range(200):
            with budget.use(2 * cores):
                with lock:
                    running += cores
                    most = max(most, running)
                with lock:
                    running -= cores

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(run, number) for number in range(8)]
        assert not wait(futures, LIMIT_S * 3).not_done
    assert most <= 3
    assert budget.free == 3


def _wait_until_waiting(budget: CoreBudget, count: int) -> None:
    """Until so many runs wait for cores."""
    limit = threading.Event()
    for _ in range(10_000):
        if budget.waiting >= count:
            return
        limit.wait(0.001)
    raise AssertionError(f"{count} runs do not wait")
