"""Runs of tiny graphs on the event loop: the same answers and errors as from the threads."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from shared.errors import DeadlineExceeded, InvalidArgument, Unavailable
from shared.inference.batching.batcher import Answer, Batcher
from shared.inference.batching.instance import Instance
from shared.rpc.deadline import Deadline
from tests.shared.inference.conftest import MakeBatcher
from tests.shared.inference.graphs import WEIGHTS, linear, picky, summed, two_of_each
from tests.support.waiting import within


def begin(batcher: Batcher, value: np.ndarray) -> asyncio.Task[Answer]:
    return asyncio.create_task(batcher.submit({"x": value}, (), Deadline.after(10)))


async def test_a_burst_runs_together_and_on_this_thread(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(linear(max_batch_size=8))
    batcher.express_rows = 8
    rows = [np.full((1, 16), n, np.float32) for n in range(6)]
    answers = await within(asyncio.gather(*(begin(batcher, row) for row in rows)))
    for row, answer in zip(rows, answers, strict=True):
        np.testing.assert_array_equal(answer.outputs["y"], row @ WEIGHTS)
        assert answer.batch_size == 6
    # All six were let in, run and answered by the loop's own turns: the room's threads took nothing.
    assert batcher.queue_size == 0
    message = batcher.statistics.to_message("graph", "1")
    assert (message.execution_count, message.inference_count) == (1, 6)


async def test_batches_end_at_the_rows_that_were_measured(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(linear(max_batch_size=8))
    batcher.express_rows = 4
    answers = await within(
        asyncio.gather(*(begin(batcher, np.ones((rows, 16), np.float32)) for rows in (2, 1, 2, 3)))
    )
    assert [answer.batch_size for answer in answers] == [3, 3, 2, 3]


async def test_larger_items_are_left_to_the_threads(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(linear(max_batch_size=8))
    batcher.express_rows = 1
    answer = await within(begin(batcher, np.ones((2, 16), np.float32)))
    assert answer.outputs["y"].shape == (2, 4)


async def test_of_a_failing_batch_only_the_guilty_fails(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(picky(max_batch_size=8))
    batcher.express_rows = 8
    tasks = [begin(batcher, np.array([value], np.int64)) for value in (0, 1, 99, 3)]
    answers = await within(asyncio.gather(*tasks, return_exceptions=True))
    assert isinstance(answers[2], InvalidArgument)
    assert [answer.outputs["y"].tolist() for answer in answers if isinstance(answer, Answer)] == [
        [0],
        [10],
        [30],
    ]


async def test_a_graph_that_sums_its_rows_away_runs_alone(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(summed(max_batch_size=8))
    batcher.express_rows = 8
    for _ in range(2):
        tasks = [begin(batcher, np.full((1, 4), value, np.float32)) for value in (1, 2, 3)]
        answers = await within(asyncio.gather(*tasks))
        assert [answer.outputs["y"][0, 0] for answer in answers] == [1, 2, 3]


async def test_who_leaves_before_the_run_is_not_run(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(linear(max_batch_size=8))
    batcher.express_rows = 8
    left, stays = (begin(batcher, np.ones((1, 16), np.float32)) for _ in range(2))
    await asyncio.sleep(0)
    left.cancel()
    assert (await within(stays)).batch_size == 1
    with pytest.raises(asyncio.CancelledError):
        await within(left)


async def test_who_is_there_when_it_is_closed_is_told(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(linear(max_batch_size=8))
    batcher.express_rows = 8
    task = begin(batcher, np.ones((1, 16), np.float32))
    await asyncio.sleep(0)
    await within(batcher.close())
    with pytest.raises(Unavailable, match="being closed"):
        await within(task)


async def test_an_item_whose_deadline_passes_before_its_turn_is_not_run(make_batcher: MakeBatcher) -> None:
    batcher = make_batcher(linear(max_batch_size=8))
    batcher.express_rows = 8
    deadline = Deadline.after(0.01)
    task = asyncio.create_task(batcher.submit({"x": np.ones((1, 16), np.float32)}, (), deadline))
    await asyncio.sleep(0)
    # The item is in, its run is due at the event loop's next turn, which something else holds up.
    while not deadline.expired:
        pass
    with pytest.raises(DeadlineExceeded):
        await within(task)
    assert batcher.statistics.to_message("graph", "1").execution_count == 0


async def test_whatever_a_run_raises_those_behind_it_are_answered(
    make_batcher: MakeBatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = make_batcher(two_of_each(max_batch_size=8))
    batcher.express_rows = 8
    run, failed = Instance.run_here, []

    def fail_once(self: Instance, *arguments: Any) -> Any:
        if not failed:
            failed.append(True)
            raise MemoryError("numpy cannot have so much")
        return run(self, *arguments)

    monkeypatch.setattr(Instance, "run_here", fail_once)
    # Of two shapes, so that the second is of another batch.
    calls = [
        batcher.submit({"a": row, "b": row}, ("sum",), Deadline.after(10))
        for row in (np.ones((1, length), np.float32) for length in (2, 3))
    ]
    answers = await within(asyncio.gather(*calls))
    assert [answer.outputs["sum"].tolist() for answer in answers] == [[[2, 2]], [[2, 2, 2]]]
    assert failed
