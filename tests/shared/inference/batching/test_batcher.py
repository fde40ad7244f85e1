"""Who runs with whom, who gets which rows, and what becomes of the others when one of them leaves or fails."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted, Unavailable
from shared.inference.batching.batcher import Answer
from shared.inference.session.session import Session
from shared.rpc.deadline import Deadline
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
from tests.shared.inference.graphs import WEIGHTS, hungry, linear, picky, slow, summed, two_of_each
from tests.support.memory import resident_bytes
from tests.support.waiting import within


async def test_one_item_alone(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(linear())
    x = np.ones((1, 16), np.float32)
    answer = await within(batcher.submit({"x": x}, (), Deadline.after(5)))
    np.testing.assert_array_equal(answer.outputs["y"], x @ WEIGHTS)
    assert answer.batch_size == 1
    assert answer.queue_s >= 0
    assert answer.compute_s > 0


async def test_items_share_a_batch_and_get_their_own_rows(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(linear(), max_batch_size=6, max_queue_delay_s=PATIENT_S)
    sent = [np.full((rows, 16), rows, np.float32) for rows in (1, 2, 3)]
    answers = await within(asyncio.gather(*(start(batcher, {"x": x}) for x in sent)))
    for x, answer in zip(sent, answers, strict=True):
        assert answer.batch_size == 6
        np.testing.assert_array_equal(answer.outputs["y"], x @ WEIGHTS)


async def test_cancelling_one_of_three_that_wait_leaves_the_other_two_answered(
    make_batcher: MakeBatcher,
) -> None:
    batcher = make_batcher(slow())
    holder = await hold(batcher)
    tasks = [start(batcher, {"x": np.array([turns])}) for turns in (1, 2, 3)]
    await until_waiting(batcher, 3)
    tasks[1].cancel()
    await until_waiting(batcher, 2)
    await release(holder)
    first, third = await within(asyncio.gather(tasks[0], tasks[2]))
    assert first.outputs["y"] == [1]
    assert third.outputs["y"] == [3]
    assert first.batch_size == 2
    assert tasks[1].cancelled()


async def test_cancelling_one_of_three_that_run_leaves_the_other_two_answered(
    make_batcher: MakeBatcher,
) -> None:
    batcher = make_batcher(slow(), max_batch_size=3, max_queue_delay_s=PATIENT_S)
    # Long enough to be found running, short enough to be waited for.
    tasks = [start(batcher, {"x": np.array([turns])}) for turns in (1, 1_000_000, 3)]
    await until_empty(batcher, 3)
    tasks[1].cancel()
    first, third = await within(asyncio.gather(tasks[0], tasks[2]))
    assert (first.outputs["y"], third.outputs["y"]) == ([1], [3])
    assert first.batch_size == 3
    with pytest.raises(asyncio.CancelledError):
        await within(tasks[1])


async def test_a_run_ends_when_all_its_callers_have_left(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(slow())
    await release(await hold(batcher))
    answer = await within(start(batcher, {"x": np.array([2])}))
    assert answer.outputs["y"] == [2]


async def test_a_poisoned_item_fails_alone(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(picky(), max_batch_size=8, max_queue_delay_s=PATIENT_S)
    indices = [0, 1, 99, 2, 3, 0, -77, 1]
    results = await within(
        asyncio.gather(
            *(start(batcher, {"x": np.array([index])}) for index in indices), return_exceptions=True
        )
    )
    for index, result in zip(indices, results, strict=True):
        if index in range(4):
            assert isinstance(result, Answer)
            assert result.outputs["y"] == [index * 10]
        else:
            assert isinstance(result, InvalidArgument)
            assert result.field == "inputs"
            assert str(index) in str(result)
            assert "onnxruntime" not in str(result).lower()


async def test_an_expired_item_is_answered_and_never_run(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(slow())
    holder = await hold(batcher)
    late = start(batcher, {"x": np.array([FOREVER])}, deadline=Deadline.after(0.05))
    with pytest.raises(DeadlineExceeded, match="test/graph"):
        await within(late)
    assert batcher.queue_size == 0
    await release(holder)
    # Had it been run, the session would be held for ever.
    answer = await within(start(batcher, {"x": np.array([2])}))
    assert answer.outputs["y"] == [2]
    message = batcher.statistics.to_message("graph", "1")
    assert message.execution_count == 1
    assert message.inference_stats.fail.count == 2


async def test_an_item_that_expires_while_the_event_loop_is_busy_is_not_run(
    make_batcher: MakeBatcher, tmp_path: Path
) -> None:
    batcher = make_batcher(slow(), max_batch_size=1)
    (tmp_path / "busy.onnx").write_bytes(slow().content)
    busy = Session(tmp_path / "busy.onnx")
    first = start(batcher, {"x": np.array([300_000])})
    await until_empty(batcher, 1)
    late = start(batcher, {"x": np.array([2])}, deadline=Deadline.after(0.01))
    await until_waiting(batcher, 1)
    # On the event loop, and for longer than the first item runs: the late one's turn comes before its timer's.
    busy.run({"x": np.array([1_500_000])}, ["y"])
    await within(first)
    with pytest.raises(DeadlineExceeded):
        await within(late)
    assert batcher.statistics.to_message("graph", "1").execution_count == 1


async def test_a_deadline_that_has_passed_is_refused_before_the_queue(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(linear())
    with pytest.raises(DeadlineExceeded):
        await within(batcher.submit({"x": np.ones((1, 16), np.float32)}, (), Deadline.after(-1)))
    assert batcher.statistics.to_message("graph", "1").execution_count == 0


async def test_an_item_that_runs_too_long_is_answered_at_its_deadline(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(slow())
    with pytest.raises(DeadlineExceeded):
        await within(batcher.submit({"x": np.array([FOREVER])}, (), Deadline.after(0.05)))
    answer = await within(start(batcher, {"x": np.array([1])}))
    assert answer.outputs["y"] == [1]


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(slow(), max_queue_size=2)
    holder = await hold(batcher)
    waiting = [start(batcher, {"x": np.array([1])}) for _ in range(2)]
    await until_waiting(batcher, 2)
    with pytest.raises(ResourceExhausted, match="2 waiting items") as refused:
        await within(batcher.submit({"x": np.array([1])}, (), Deadline.after(5)))
    assert refused.value.retry_after_s is not None
    await release(holder)
    await within(asyncio.gather(*waiting))


async def test_who_leaves_the_queue_makes_room(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(slow(), max_queue_size=1)
    holder = await hold(batcher)
    leaver = start(batcher, {"x": np.array([1])})
    await until_waiting(batcher, 1)
    await release(leaver)
    stayer = start(batcher, {"x": np.array([1])})
    await until_waiting(batcher, 1)
    await release(holder)
    await within(stayer)


async def test_close_refuses_who_waits_who_runs_and_who_comes(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(slow())
    running = start(batcher, {"x": np.array([FOREVER])})
    await until_empty(batcher, 1)
    waiting = start(batcher, {"x": np.array([1])})
    await until_waiting(batcher, 1)
    await within(batcher.close())
    for task in (running, waiting):
        with pytest.raises(Unavailable, match="closed"):
            await within(task)
    with pytest.raises(Unavailable):
        await within(batcher.submit({"x": np.array([1])}, (), Deadline.after(5)))
    await within(batcher.close())


async def test_only_equal_shapes_and_outputs_run_together(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(two_of_each(), max_batch_size=2, max_queue_delay_s=PATIENT_S)

    def pair(width: int, value: float) -> dict[str, Any]:
        return {"a": np.full((1, width), value, np.float32), "b": np.ones((1, width), np.float32)}

    answers = await within(
        asyncio.gather(
            start(batcher, pair(3, 1)),
            start(batcher, pair(4, 2)),
            start(batcher, pair(3, 3), outputs=("sum",)),
            start(batcher, pair(4, 4)),
            start(batcher, pair(3, 5), outputs=("sum",)),
            start(batcher, pair(3, 6)),
        )
    )
    assert [answer.batch_size for answer in answers] == [2] * 6
    assert [list(answer.outputs) for answer in answers] == [
        ["sum", "difference"],
        ["sum", "difference"],
        ["sum"],
        ["sum", "difference"],
        ["sum"],
        ["sum", "difference"],
    ]
    for answer, value, width in zip(answers, range(1, 7), (3, 4, 3, 4, 3, 3), strict=True):
        np.testing.assert_array_equal(answer.outputs["sum"], np.full((1, width), value + 1))


async def test_the_oldest_goes_first(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(slow(), max_batch_size=1)
    holder = await hold(batcher)
    done: list[int] = []
    tasks = []
    for turns in (5, 4, 3, 2, 1):
        task = start(batcher, {"x": np.array([turns])})
        task.add_done_callback(lambda task: done.append(int(task.result().outputs["y"][0])))
        tasks.append(task)
    await until_waiting(batcher, 5)
    await release(holder)
    await within(asyncio.gather(*tasks))
    assert done == [5, 4, 3, 2, 1]


async def test_rows_of_one_item_stay_together(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(slow(), max_batch_size=4)
    holder = await hold(batcher)
    tasks = [start(batcher, {"x": np.arange(1, rows + 1)}) for rows in (3, 2, 1)]
    await until_waiting(batcher, 3)
    await release(holder)
    answers = await within(asyncio.gather(*tasks))
    # 3 + 2 rows are too many; the row behind them does not overtake.
    assert [answer.batch_size for answer in answers] == [3, 3, 3]
    assert [answer.outputs["y"].tolist() for answer in answers] == [[1, 2, 3], [1, 2], [1]]


@pytest.mark.parametrize(
    ("inputs", "field", "text"),
    [
        ({"a": (9, 2), "b": (9, 2)}, "inputs[0].shape", "at most 8 rows"),
        ({"a": (2, 2), "b": (3, 2)}, "inputs[1].shape", "expected 2 rows in 'b' as in 'a'"),
        ({"a": (0, 2), "b": (0, 2)}, "inputs[0].shape", "at least 1 row"),
    ],
)
async def test_wrong_rows_are_refused_by_field(
    make_batcher: MakeBatcher, inputs: dict[str, tuple[int, ...]], field: str, text: str
) -> None:
    batcher = make_batcher(two_of_each())
    arrays = {name: np.zeros(shape, np.float32) for name, shape in inputs.items()}
    with pytest.raises(InvalidArgument) as refused:
        await within(batcher.submit(arrays, (), Deadline.after(5)))
    assert refused.value.field == field
    assert text in str(refused.value)


async def test_a_graph_without_a_batch_axis_runs_alone(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(summed(), max_batch_size=0)
    x = np.ones((3, 4), np.float32)
    answers = await within(asyncio.gather(*(start(batcher, {"x": x * n}) for n in (1, 2, 3))))
    assert [answer.outputs["y"][0, 0] for answer in answers] == [3, 6, 9]
    assert [answer.batch_size for answer in answers] == [1, 1, 1]


async def test_a_graph_that_only_claims_a_batch_axis_is_found_out(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(summed(), max_batch_size=3, max_queue_delay_s=PATIENT_S)
    x = np.ones((1, 4), np.float32)
    answers = await within(asyncio.gather(*(start(batcher, {"x": x * n}) for n in (1, 2, 3))))
    assert [answer.outputs["y"][0, 0] for answer in answers] == [1, 2, 3]


async def test_answers_share_no_writable_memory(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(linear(), max_batch_size=2, max_queue_delay_s=PATIENT_S)
    x = np.ones((1, 16), np.float32)
    answers = await within(asyncio.gather(start(batcher, {"x": x}), start(batcher, {"x": x})))
    for answer in answers:
        with pytest.raises(ValueError, match="read-only"):
            answer.outputs["y"][:] = 0
    assert not np.shares_memory(answers[0].outputs["y"], answers[1].outputs["y"])


async def test_a_batch_that_is_long_enough_takes_no_more(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(slow(), max_batch_size=8, target_batch_s=1e-9, worthwhile_cost=2)
    # The first run teaches what a row costs: more than the target.
    await within(start(batcher, {"x": np.array([100])}))
    holder = await hold(batcher)
    tasks = [start(batcher, {"x": np.array([1])}) for _ in range(4)]
    await until_waiting(batcher, 4)
    await release(holder)
    answers = await within(asyncio.gather(*tasks))
    assert [answer.batch_size for answer in answers] == [2, 2, 2, 2]


async def test_a_session_at_rest_gives_its_memory_back_and_answers_again(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(hungry(), rest_s=0.01)
    await within(batcher.submit({"x": np.ones((1, 1, 1), np.float32)}, (), Deadline.after(10)))
    x = np.ones((1, 16384, 1), np.float32)  # 256 MiB on the way
    for _ in range(2):
        before = resident_bytes()
        answer = await within(batcher.submit({"x": x}, (), Deadline.after(10)))
        assert (answer.outputs["y"] == 4096).all()
        async with asyncio.timeout(10):
            while resident_bytes() - before > 50 * 2**20:
                await asyncio.sleep(0)


async def test_a_busy_session_keeps_its_memory(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(hungry(), rest_s=60)
    before = resident_bytes()
    await within(batcher.submit({"x": np.ones((1, 16384, 1), np.float32)}, (), Deadline.after(10)))
    assert resident_bytes() - before > 200 * 2**20
