"""Turns between principals: fair by cost, by age within each, and without trace of those who left."""

from __future__ import annotations

import random
import time
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shared.inference.batching.order import FairOrder
from shared.inference.batching.waiting import Item
from tests.shared.inference.batching.items import make_item


def take_next(order: FairOrder) -> Item:
    lane = order.first()
    assert lane is not None
    item = lane.entries[0][2]
    order.take(lane)
    order.settle(lane)
    order.serve(item)
    return item


def take_all(order: FairOrder) -> list[Item]:
    return [take_next(order) for _ in range(order.count)]


def test_one_principals_items_go_by_age() -> None:
    order = FairOrder()
    items = [make_item(cost=cost) for cost in (5, 1, 9, 1)]
    for item in items:
        order.add(item)
    assert take_all(order) == items
    assert order.first() is None


def test_who_comes_with_one_item_does_not_wait_for_anothers_five_hundred() -> None:
    order = FairOrder()
    for _ in range(500):
        order.add(make_item("flood"))
    for _ in range(3):
        take_next(order)
    quiet = make_item("quiet")
    order.add(quiet)
    assert quiet in (take_next(order), take_next(order))


def test_what_is_served_counts_although_nobody_waited_behind_it() -> None:
    order = FairOrder()
    order.add(make_item("flood"))
    take_next(order)
    # It runs; one more of the flood comes, and then somebody who has had nothing.
    again, quiet = make_item("flood"), make_item("quiet")
    order.add(again)
    order.add(quiet)
    assert take_all(order) == [quiet, again]


def test_after_a_rest_nobody_is_owed_anything() -> None:
    order = FairOrder()
    order.add(make_item("flood"))
    take_next(order)
    order.reset()
    first, second = make_item("flood"), make_item("quiet")
    order.add(first)
    order.add(second)
    assert take_all(order) == [first, second]


def test_cost_is_shared_alike_between_those_who_want_more() -> None:
    order = FairOrder()
    for _ in range(300):
        order.add(make_item("dear", cost=10))
    for _ in range(300):
        order.add(make_item("cheap", cost=2))
    served: Counter[str] = Counter()
    for _ in range(200):
        item = take_next(order)
        served[item.principal] += int(item.cost)
    assert abs(served["dear"] - served["cheap"]) <= 12


def test_a_principal_that_rested_has_saved_nothing_up() -> None:
    order = FairOrder()
    for _ in range(100):
        order.add(make_item("steady"))
    for _ in range(50):
        take_next(order)
    for _ in range(50):
        order.add(make_item("late"))
    served = Counter(take_next(order).principal for _ in range(40))
    assert abs(served["steady"] - served["late"]) <= 1


def test_who_leaves_gives_his_turn_to_his_principals_next() -> None:
    order = FairOrder()
    for _ in range(10):
        order.add(make_item("other"))
    left = [make_item("leaver") for _ in range(10)]
    for item in left:
        order.add(item)
    for item in left:
        order.remove(item)
    stays = make_item("leaver")
    order.add(stays)
    assert stays in (take_next(order), take_next(order))


def test_those_who_left_leave_nothing_behind_under_unbroken_load() -> None:
    order = FairOrder()
    order.add(make_item("steady"))
    for number in range(5000):
        item = make_item(f"p{number}", kind=number % 7)
        order.add(item)
        order.remove(item)
    assert order.held < 200
    assert take_next(order).principal == "steady"
    assert order.count == order.rows == order.cost == 0


def test_cost_before_tells_how_much_is_served_first() -> None:
    order = FairOrder()
    for _ in range(100):
        order.add(make_item("flood"))
    assert order.cost_before("flood") == 100
    assert order.cost_before("quiet") <= 1


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.integers(0, 3)), max_size=60),
    st.randoms(),
)
def test_each_item_is_taken_once_whatever_comes_and_goes(
    wanted: list[tuple[str, int, int]], rng: random.Random
) -> None:
    order = FairOrder()
    waiting: list[Item] = []
    taken: list[Item] = []
    for principal, cost, kind in wanted:
        item = make_item(principal, cost, kind=kind)
        order.add(item)
        waiting.append(item)
        if rng.random() < 0.3:
            left = waiting.pop(rng.randrange(len(waiting)))
            order.remove(left)
        if waiting and rng.random() < 0.3:
            item = take_next(order)
            waiting.remove(item)
            taken.append(item)
    assert order.count == len(waiting)
    assert order.cost == sum(item.cost for item in waiting)
    rest = take_all(order)
    assert sorted(map(id, rest)) == sorted(map(id, waiting))
    for principal in "abc":
        mine = [item.queued_ns for item in taken + rest if item.principal == principal]
        assert mine == sorted(mine)


def test_adding_and_taking_do_not_grow_with_the_queue() -> None:
    def time_turns(size: int) -> float:
        order = FairOrder()
        for number in range(size):
            order.add(make_item(f"p{number % 50}", kind=number % 40))
        fresh = [make_item(f"p{number % 50}", kind=number % 40) for number in range(2000)]
        started_s = time.thread_time()
        for item in fresh:
            order.add(item)
            take_next(order)
        return time.thread_time() - started_s

    small, large = min(time_turns(50) for _ in range(3)), min(time_turns(5000) for _ in range(3))
    assert large < 4 * small
