"""What makes a batch: cost, length, priority and deadline, and that nobody waits for ever."""

from __future__ import annotations

import math
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.inference.batching.pace import Pace
from shared.inference.batching.queue import BATCH_SHARE, Batch, Queue
from shared.inference.batching.shape import MAX_WASTE
from shared.inference.batching.waiting import Item
from shared.rpc.caller import Priority
from tests.shared.inference.batching.items import make_item, make_limits, make_text

# A graph whose run takes 1 ms and 1 ms for each unit of cost.
FIXED_S = PER_COST_S = 0.001


def make_queue(fixed_s: float = FIXED_S, **limits: float) -> Queue:
    pace = Pace()
    pace.seed(fixed_s, PER_COST_S)
    return Queue(10_000, make_limits(**limits), pace)


def add_all(queue: Queue, items: list[Item]) -> list[Item]:
    for item in items:
        queue.add(item)
    return items


def pick(queue: Queue) -> Batch:
    batch, late = queue.pick(time.monotonic())
    assert not late
    return batch


def waste(batch: Batch) -> float:
    return 1 - batch.cost / batch.padded_cost


def test_a_batch_ends_at_its_rows() -> None:
    queue = make_queue(max_rows=4)
    items = add_all(queue, [make_item(rows=2), make_item(), make_item(rows=2), make_item()])
    assert pick(queue).items == items[:2]
    assert pick(queue).items == items[2:]
    assert not pick(queue).items


def test_a_batch_ends_where_it_would_take_longer_than_the_target() -> None:
    queue = make_queue(target_s=0.0105, worthwhile_cost=1)
    add_all(queue, [make_item(cost=3) for _ in range(10)])
    assert len(pick(queue).items) == 3


def test_a_batch_that_is_not_worth_its_fixed_part_yet_may_take_longer() -> None:
    queue = make_queue(target_s=0.0105, worthwhile_cost=18)
    add_all(queue, [make_item(cost=3) for _ in range(10)])
    assert len(pick(queue).items) == 6


def test_a_batch_never_costs_more_than_its_bound_but_for_one_item_alone() -> None:
    queue = make_queue(max_cost=10)
    items = add_all(queue, [make_item(cost=50), *(make_item(cost=4) for _ in range(4))])
    assert pick(queue).items == items[:1]
    assert pick(queue).items == items[1:3]


def test_texts_of_unlike_lengths_share_a_batch_as_long_as_little_is_filling() -> None:
    # The fixed part is all that such a batch saves: let it be long.
    queue = make_queue(fixed_s=1.0)
    first = make_text(100)
    near = [make_text(length) for length in (90, 110, 80)]
    far = [make_text(length) for length in (10, 300)]
    add_all(queue, [first, *far, *near])
    batch = pick(queue)
    assert set(batch.items) == {first, *near}
    assert 0 < waste(batch) <= MAX_WASTE


def test_filling_that_costs_more_than_a_run_of_its_own_is_not_done() -> None:
    queue = make_queue()  # a run of its own costs as much as one token
    items = add_all(queue, [make_text(100), make_text(99), make_text(90)])
    assert pick(queue).items == items[:2]


@given(st.lists(st.integers(1, 400), min_size=1, max_size=80), st.floats(0, 1))
def test_whatever_waits_is_run_in_batches_of_little_filling(lengths: list[int], fixed_s: float) -> None:
    pace = Pace()
    pace.seed(fixed_s, PER_COST_S)
    queue = Queue(10_000, make_limits(max_rows=16), pace)
    waiting = add_all(queue, [make_text(length, principal=str(length % 3)) for length in lengths])
    taken: list[Item] = []
    while len(queue):
        batch = pick(queue)
        assert batch.rows == sum(item.rows for item in batch.items) <= 16
        assert batch.length == max(item.length for item in batch.items)
        assert batch.padded_cost == pytest.approx(batch.length * batch.rows)
        assert waste(batch) <= MAX_WASTE + 1e-9
        taken += batch.items
    assert sorted(map(id, taken)) == sorted(map(id, waiting))
    assert queue.cost == 0


def test_the_one_whose_turn_it_is_is_in_the_next_batch() -> None:
    queue = make_queue(max_rows=4)
    odd = make_text(300)
    add_all(queue, [make_text(10), odd, *(make_text(10) for _ in range(50))])
    pick(queue)
    assert odd in pick(queue).items


def test_a_flood_of_five_hundred_delays_another_by_no_more_than_a_batch() -> None:
    queue = make_queue(max_rows=32)
    add_all(queue, [make_item("flood") for _ in range(500)])
    pick(queue)
    quiet = make_item("quiet")
    queue.add(quiet)
    assert quiet in pick(queue).items


def test_interactive_items_go_first_and_take_batch_ones_along() -> None:
    queue = make_queue(max_rows=4)
    later = add_all(queue, [make_item(priority=Priority.BATCH) for _ in range(5)])
    urgent = add_all(queue, [make_item() for _ in range(3)])
    assert pick(queue).items == [*urgent, later[0]]
    assert pick(queue).items == later[1:]


def test_batch_items_get_their_share_under_unbroken_interactive_load() -> None:
    queue = make_queue(max_rows=1)
    later = add_all(queue, [make_item(cost=5, priority=Priority.BATCH) for _ in range(200)])
    served = 0.0
    total = 0.0
    for _ in range(1000):
        queue.add(make_item())
        (item,) = pick(queue).items
        total += item.cost
        served += item.cost if item in later else 0
    assert served / total == pytest.approx(BATCH_SHARE, abs=0.01)


def test_a_batch_item_of_another_length_is_not_starved_by_those_that_ride_along() -> None:
    queue = make_queue(max_rows=4)
    odd = make_text(300, priority=Priority.BATCH)
    queue.add(odd)
    cost = 0.0
    while True:
        add_all(queue, [make_text(10), make_text(10, priority=Priority.BATCH)])
        batch = pick(queue)
        if odd in batch.items:
            break
        cost += batch.cost
        assert cost < 2 * odd.cost * (1 - BATCH_SHARE) / BATCH_SHARE + 100


def test_batch_items_alone_owe_nothing() -> None:
    queue = make_queue(max_rows=1)
    add_all(queue, [make_item(priority=Priority.BATCH) for _ in range(50)])
    for _ in range(40):
        pick(queue)
    urgent = make_item()
    queue.add(urgent)
    assert pick(queue).items == [urgent]


def test_what_is_past_its_deadline_or_sure_to_be_is_given_back() -> None:
    queue = make_queue()
    now_s = time.monotonic()
    gone = make_item(timeout_s=-1)
    hopeless = make_item(cost=1000, timeout_s=0.5)  # takes 1 s
    fine = make_item(timeout_s=5)
    add_all(queue, [gone, hopeless, fine])
    batch, late = queue.pick(now_s)
    assert (batch.items, late) == ([fine], [gone, hopeless])


def test_an_item_alone_is_tried_however_long_it_is_expected_to_take() -> None:
    queue = make_queue()
    hopeless = make_item(cost=1000, timeout_s=0.5)
    queue.add(hopeless)
    assert pick(queue).items == [hopeless]


def test_a_batch_ends_by_the_deadline_of_who_is_in_it() -> None:
    queue = make_queue(worthwhile_cost=2)
    hurried = make_item(cost=5, timeout_s=0.0165)
    others = [make_item(cost=5) for _ in range(10)]
    add_all(queue, [others[0], hurried, *others[1:]])
    assert len(pick(queue).items) in (2, 3)
    assert len(pick(queue).items) >= 8


def test_leaving_takes_an_item_out_at_once_with_its_tensors() -> None:
    queue = make_queue()
    item, other = make_item(), make_item(priority=Priority.BATCH)
    add_all(queue, [item, other])
    assert queue.remove(item)
    assert not queue.remove(item)
    assert (len(queue), queue.cost) == (1, 1)
    assert pick(queue).items == [other]


def test_expected_time_counts_batches_and_cost() -> None:
    queue = make_queue(max_rows=4)
    assert queue.expected_s() == 0
    add_all(queue, [make_item(cost=2) for _ in range(8)])
    assert queue.expected_s() == pytest.approx(2 * FIXED_S + 16 * PER_COST_S)
    add_all(queue, [make_item("other", cost=2, priority=Priority.BATCH) for _ in range(8)])
    # Before an interactive item: the other's, as far as they have the same turn, and a share of the BATCH ones.
    assert queue.expected_before_s("new", Priority.INTERACTIVE) < queue.expected_before_s(
        "new", Priority.BATCH
    )
    assert queue.expected_before_s("", Priority.INTERACTIVE) < queue.expected_s()


def test_waiting_for_company_is_bounded_by_what_it_can_save() -> None:
    queue = make_queue(max_delay_s=1.0, max_rows=4)
    assert queue.delay_s(time.monotonic()) == 0
    add_all(queue, [make_item()])
    assert 0 < queue.delay_s(time.monotonic()) <= FIXED_S + PER_COST_S
    add_all(queue, [make_item() for _ in range(3)])
    assert queue.delay_s(time.monotonic()) == 0


def test_nobody_starves_among_lengths_principals_and_priorities() -> None:
    """Under load that never ends, whoever comes is served within a bounded number of batches."""
    rng = random.Random(7)
    queue = make_queue(max_rows=8, target_s=0.2, worthwhile_cost=50)

    def make() -> Item:
        return make_text(rng.randint(1, 300), rng.choice(["a", "a", "a", "b", "c"]))

    add_all(queue, [make() for _ in range(200)])
    born: dict[int, int] = {}
    longest = 0
    for turn in range(2000):
        for item in pick(queue).items:
            longest = max(longest, turn - born.pop(id(item), turn))
            new = make()
            born[id(new)] = turn
            queue.add(new)
    # Each of three principals has a third of the runs, and no more than 200 items wait.
    assert longest <= 600
    assert math.isfinite(queue.cost)
