"""Lengths, principals, priorities, deadlines and instances on real sessions: who runs when, and that nothing is swapped."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections import Counter
from typing import Any

import numpy as np
import pytest

from shared.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted, Unavailable
from shared.inference.batching.batcher import Answer, Batcher
from shared.inference.isolation.guard import Guard, make_unwatched_guard
from shared.inference.session.cores import CoreBudget
from shared.inference.session.session import RunOptions
from shared.rpc.caller import Priority
from shared.rpc.deadline import Deadline
from shared.rpc.report import Report, set_report
from tests.shared.inference.batching.calling import (
    FOREVER,
    PATIENT_S,
    hold,
    release,
    start,
    until_empty,
    until_waiting,
)
from tests.shared.inference.conftest import MakeBatcher
from tests.shared.inference.graphs import masked, picky, slow, two_of_each
from tests.support.waiting import within


def text(*values: int, rows: int = 1) -> dict[str, Any]:
    """An item of the masked graph."""
    x = np.array([values] * rows, np.int64)
    return {"x": x, "mask": np.ones_like(x)}


def check_text(answer: Answer, values: tuple[int, ...], rows: int = 1) -> None:
    wanted = np.array([values] * rows) * 10
    np.testing.assert_array_equal(answer.outputs["pick"], wanted)
    np.testing.assert_array_equal(answer.outputs["total"], wanted.sum(axis=1))


async def test_unlike_lengths_run_together_and_each_gets_its_own_length_back(
    make_batcher: MakeBatcher,
) -> None:
    batcher = make_batcher(masked(), max_batch_size=4, max_queue_delay_s=PATIENT_S)
    texts = [(1, 2, 3, 1), (3, 3, 3), (2, 2, 2, 2), (1, 1, 1)]
    answers = await within(asyncio.gather(*(start(batcher, text(*values)) for values in texts)))
    assert batcher.statistics.to_message("", "").execution_count <= 2
    for values, answer in zip(texts, answers, strict=True):
        check_text(answer, values)
    assert 0 <= batcher.statistics.waste <= 0.25


async def test_an_item_alone_is_not_filled_up(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(masked())
    check_text(await within(start(batcher, text(1, 2, 3, rows=3))), (1, 2, 3), rows=3)
    assert batcher.statistics.waste == 0


async def test_an_item_of_no_length_at_all_runs_alone(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(masked(), max_queue_delay_s=0.01)
    empty, one = await within(
        asyncio.gather(start(batcher, text()), start(batcher, text(1)), return_exceptions=True)
    )
    assert isinstance(empty, Answer)
    assert isinstance(one, Answer)
    assert empty.outputs["pick"].shape == (1, 0)
    assert empty.batch_size == one.batch_size == 1


async def test_inputs_that_are_filled_up_together_must_be_equally_long(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(masked())
    with pytest.raises(InvalidArgument, match="expected 3 along axis 1 of 'mask' as in 'x'") as refused:
        await within(start(batcher, {"x": np.ones((1, 3), np.int64), "mask": np.ones((1, 2), np.int64)}))
    assert refused.value.field == "inputs[1].shape"


@pytest.mark.parametrize("at", [0, 13, 31])
async def test_one_poisoned_item_of_thirty_two_fails_alone(make_batcher: MakeBatcher, at: int) -> None:
    batcher = make_batcher(masked(32), max_queue_delay_s=PATIENT_S)
    texts = [(1, 2, 3, number % 4) for number in range(32)]
    texts[at] = (1, 99, 1, 1)
    results = await within(
        asyncio.gather(*(start(batcher, text(*values)) for values in texts), return_exceptions=True)
    )
    for number, (values, result) in enumerate(zip(texts, results, strict=True)):
        if number == at:
            assert isinstance(result, InvalidArgument)
        else:
            assert isinstance(result, Answer)
            check_text(result, values)
    counted = batcher.statistics.to_message("", "").inference_stats
    assert (counted.success.count, counted.fail.count) == (31, 1)


async def test_a_flood_does_not_hold_up_another_principal(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(slow(), max_batch_size=8)
    holder = await hold(batcher)
    order: list[str] = []
    tasks = []
    for _ in range(500):
        task = start(batcher, {"x": np.array([1])}, principal="flood")
        task.add_done_callback(lambda _, name="flood": order.append(name))
        tasks.append(task)
    await until_waiting(batcher, 500)
    tasks.append(quiet := start(batcher, {"x": np.array([1])}, principal="quiet"))
    quiet.add_done_callback(lambda _: order.append("quiet"))
    await until_waiting(batcher, 501)
    await release(holder)
    await within(asyncio.gather(*tasks))
    assert order.index("quiet") <= 2 * 8


async def test_a_caller_may_lower_his_priority_and_not_raise_it(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(slow(), max_batch_size=1)
    holder = await hold(batcher)
    order: list[int] = []
    options: list[dict[str, Any]] = [
        {"priority": Priority.BATCH},
        {"priority": Priority.INTERACTIVE, "caller_priority": Priority.BATCH},
        {"priority": Priority.INTERACTIVE},
        {},
    ]
    tasks = []
    for number, option in enumerate(options):
        task = start(batcher, {"x": np.array([1])}, **option)
        task.add_done_callback(lambda _, number=number: order.append(number))
        tasks.append(task)
    await until_waiting(batcher, 4)
    await release(holder)
    await within(asyncio.gather(*tasks))
    assert order == [2, 3, 0, 1]


async def test_what_cannot_be_done_by_its_deadline_is_refused_at_once(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(slow(), max_batch_size=1)
    batcher.pace.seed(0.0, 1.0)  # a second for each item
    holder = await hold(batcher)
    with pytest.raises(ResourceExhausted, match="to the deadline") as refused:
        await within(start(batcher, {"x": np.array([1])}, deadline=Deadline.after(1.5)))
    assert refused.value.retry_after_s is not None
    with pytest.raises(DeadlineExceeded, match="takes about 1 s"):
        await within(start(batcher, {"x": np.array([1])}, deadline=Deadline.after(0.5)))
    assert batcher.queue_size == 0
    load = batcher.load()
    assert (load.running, load.queued_items, load.s_per_cost) == (1, 0, 1.0)
    assert 0 < load.expected_wait_s <= 1
    await release(holder)


async def test_an_idle_session_tries_and_so_mends_a_wrong_expectation(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(slow(), max_batch_size=1)
    batcher.pace.seed(0.0, 1000.0)
    for _ in range(3):
        await within(start(batcher, {"x": np.array([1])}, deadline=Deadline.after(5)))
    assert batcher.load().s_per_cost < 5


async def test_instances_run_beside_each_other_out_of_one_queue(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(slow(), max_batch_size=1, instances=2)
    first = await hold(batcher)
    answers = await within(asyncio.gather(*(start(batcher, {"x": np.array([n])}) for n in (1, 2, 3))))
    assert [answer.outputs["y"][0] for answer in answers] == [1, 2, 3]
    second = await hold(batcher)
    waiting = start(batcher, {"x": np.array([4])})
    await until_waiting(batcher, 1)
    assert batcher.load().running == 2
    await release(first)
    assert (await within(waiting)).outputs["y"] == [4]
    await release(second)


async def test_guards_see_every_run_and_are_closed_with_their_threads(make_batcher: MakeBatcher) -> None:
    seen: list[tuple[str, float]] = []

    class Watching(Guard):
        __slots__ = ()

        def begin(self, options: RunOptions | None, expected_s: float) -> None:
            seen.append(("begin", expected_s))

        def end(self) -> None:
            seen.append(("end", 0.0))

        def close(self) -> None:
            seen.append(("close", 0.0))

    def make_guard() -> Guard:
        return Watching("m", "1", "g", "d", flags=bytearray(1), slot=0, name_thread=None, close=None)

    batcher = make_batcher(picky(), instances=2, make_guard=make_guard)
    await within(start(batcher, {"x": np.array([1])}))
    with pytest.raises(InvalidArgument):
        await within(start(batcher, {"x": np.array([50])}))
    await within(batcher.close())
    kinds = Counter(kind for kind, _ in seen)
    assert kinds == {"begin": 2, "end": 2, "close": 2}
    assert next(expected_s for kind, expected_s in seen if kind == "begin") == 0


async def test_a_run_that_the_guard_ends_fails_all_its_items_and_is_not_run_again(
    make_batcher: MakeBatcher,
) -> None:
    began: list[RunOptions | None] = []

    def make_guard() -> Guard:
        guard = make_unwatched_guard("m", "1", "g", "d")
        began_with = guard.begin

        class Noting(Guard):
            __slots__ = ()

            def begin(self, options: RunOptions | None, expected_s: float) -> None:
                began.append(options)
                began_with(options, expected_s)

        return Noting("m", "1", "g", "d", flags=bytearray(1), slot=0, name_thread=None, close=None)

    batcher = make_batcher(slow(), max_batch_size=2, max_queue_delay_s=PATIENT_S, make_guard=make_guard)
    tasks = [start(batcher, {"x": np.array([turns])}) for turns in (FOREVER, 1)]
    async with asyncio.timeout(10):
        while not began:
            await asyncio.sleep(0)
    (options,) = began
    assert options is not None
    options.terminate = True
    for task in tasks:
        with pytest.raises(Unavailable, match="took too long"):
            await within(task)
    assert len(began) == 1


async def test_runs_take_cores_and_give_them_back(make_batcher: MakeBatcher) -> None:
    cores = CoreBudget(2)
    batcher = make_batcher(picky(), instances=2, core_budget=cores, threads=2)
    calls = (start(batcher, {"x": np.array([n % 5])}) for n in range(50))
    await within(asyncio.gather(*calls, return_exceptions=True))
    await within(batcher.close())
    assert cores.free == 2


async def test_a_call_reports_where_its_time_went(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(masked(), model="test/masked", version="3")
    report = Report()
    set_report(report)
    answer = await within(batcher.submit(text(1, 2), (), Deadline.after(5)))
    assert report.models == ("test/masked@3",)
    assert report.batch_size == 1
    assert answer.queue_s > 0
    assert answer.batch_s > 0
    assert answer.compute_s > 0


async def test_close_answers_those_who_run_at_once(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(slow(), instances=2, max_batch_size=1)
    tasks = [start(batcher, {"x": np.array([FOREVER])}) for _ in range(3)]
    await until_waiting(batcher, 1)
    await within(batcher.close())
    for task in tasks:
        with pytest.raises(Unavailable):
            await within(task)


async def test_a_thousand_cancels_leave_no_task_no_place_and_no_bytes(make_batcher: MakeBatcher) -> None:
    rng = random.Random(3)
    batcher = make_batcher(masked(16), max_queue_size=200, instances=2)
    tasks_before = len(asyncio.all_tasks())
    arrays: list[weakref.ref[np.ndarray[Any, Any]]] = []

    async def call() -> None:
        x = np.ones((1, rng.randint(1, 40)), np.int64)
        arrays.append(weakref.ref(x))
        await batcher.submit({"x": x, "mask": x}, (), Deadline.after(30))

    for _ in range(20):
        tasks = [asyncio.ensure_future(call()) for _ in range(100)]
        doomed = rng.sample(tasks, 50)
        for number, task in enumerate(doomed):
            if number % 10 == 0:
                await asyncio.sleep(0)
            task.cancel()
        await within(asyncio.gather(*tasks, return_exceptions=True))
    await until_empty(batcher, 1)
    async with asyncio.timeout(10):
        while batcher.load().running:
            await asyncio.sleep(0)
    load = batcher.load()
    assert (load.queued_items, load.queued_cost) == (0, 0)
    assert len(asyncio.all_tasks()) == tasks_before
    # The threads drop their last batch with the next one.
    for _ in range(4):
        await within(start(batcher, text(1)))
    del tasks, doomed
    gc.collect()
    assert sum(array() is not None for array in arrays) <= 2
    counted = batcher.statistics.to_message("", "").inference_stats
    assert counted.success.count + counted.fail.count <= 20 * 100 + 4


@pytest.mark.parametrize("instances", [1, 3])
async def test_random_interleavings_never_swap_answers(make_batcher: MakeBatcher, instances: int) -> None:
    """3,000 calls of random lengths, rows, outputs, principals, priorities, poison, cancels and deadlines."""
    rng = random.Random(20_26 + instances)
    options: dict[str, Any] = {"max_queue_size": 4000, "instances": instances}
    batchers = {
        "pairs": make_batcher(two_of_each(), **options),
        "picky": make_batcher(picky(), **options),
        "masked": make_batcher(masked(), max_queue_delay_s=0.001, **options),
    }

    async def call(number: int) -> str:
        for _ in range(rng.randrange(3)):
            await asyncio.sleep(0)
        deadline = Deadline.after(rng.choice([30.0, 30.0, 30.0, 0.002]))
        kind = rng.choice(list(batchers))
        poisoned = rng.random() < 0.05
        try:
            await CALLS[kind](batchers[kind], rng, number, poisoned, deadline)
        except InvalidArgument:
            assert poisoned
            return "poisoned"
        except (DeadlineExceeded, ResourceExhausted):
            return "late"
        return f"answered {kind}"

    tasks = [asyncio.ensure_future(call(number)) for number in range(3000)]
    for task in tasks:
        if rng.random() < 0.1:
            asyncio.get_running_loop().call_later(rng.random() * 0.05, task.cancel)
    results = await within(asyncio.gather(*tasks, return_exceptions=True), 60)
    wrong = [
        result
        for result in results
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError)
    ]
    assert not wrong
    counts = Counter(result for result in results if isinstance(result, str))
    for kind, batcher in batchers.items():
        assert counts[f"answered {kind}"] > 300
        counted = batcher.statistics.to_message("graph", "1")
        assert counted.execution_count < counted.inference_stats.success.count
    assert counts["poisoned"]


async def call_pairs(
    batcher: Batcher, rng: random.Random, number: int, poisoned: bool, deadline: Deadline
) -> None:
    rows, width = rng.randint(1, 4), rng.randint(1, 3)
    a = np.full((rows, width), number, np.float32) + np.arange(rows, dtype=np.float32)[:, None] / 8
    wanted = rng.choice([(), ("sum",), ("difference", "sum")])
    options = random_caller(rng)
    answer = await start(
        batcher, {"a": a, "b": np.ones_like(a)}, outputs=wanted, deadline=deadline, **options
    )
    assert tuple(answer.outputs) == (wanted or ("sum", "difference"))
    np.testing.assert_array_equal(answer.outputs["sum"], a + 1)


async def call_picky(
    batcher: Batcher, rng: random.Random, number: int, poisoned: bool, deadline: Deadline
) -> None:
    values = np.array([50 if poisoned else rng.randrange(4) for _ in range(rng.randint(1, 4))])
    answer = await start(batcher, {"x": values}, deadline=deadline, **random_caller(rng))
    np.testing.assert_array_equal(answer.outputs["y"], values * 10)


async def call_masked(
    batcher: Batcher, rng: random.Random, number: int, poisoned: bool, deadline: Deadline
) -> None:
    rows = rng.randint(1, 3)
    values = tuple(rng.randrange(4) for _ in range(rng.randint(1, 40)))
    if poisoned:
        values = (*values, 77)
    answer = await start(batcher, text(*values, rows=rows), deadline=deadline, **random_caller(rng))
    check_text(answer, values, rows)


def random_caller(rng: random.Random) -> dict[str, Any]:
    return {"principal": rng.choice("abcd"), "priority": rng.choice([None, *Priority])}


CALLS = {"pairs": call_pairs, "picky": call_picky, "masked": call_masked}
