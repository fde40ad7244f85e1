"""Readings through a model: each an item of its own, as many at a time as another call's turn allows.

Not here: what the rows mean (`embedder`, `classifier`), what runs together (the model's batcher).
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.nlp.reading import Reading
from shared.errors import DeadlineExceeded, ResourceExhausted
from shared.inference.model import Model
from shared.inference.timing import ItemStopwatch
from shared.rpc.caller import Priority
from shared.rpc.deadline import Deadline

Row = NDArray[np.float32]

# Tokens of one call that wait at a time: enough for some batches (of 64 to 128 tokens on a CPU, of 32 short texts on a
# GPU), and few enough that a text of another call of the same principal does not wait for the whole of a long list.
_WINDOW_TOKENS = 1024


async def run_readings(
    model: Model,
    readings: Sequence[Reading],
    output: str,
    watches: Sequence[ItemStopwatch],
    deadline: Deadline,
    *,
    priority: Priority | None = None,
) -> list[Row]:
    """The model's `output` for each reading, one row each, in order.

    Each text is an item of its own, and the batcher finds others of like length for it, from other callers as well.
    """
    rows: list[Row] = [np.empty(0, np.float32)] * len(readings)

    async def run(index: int) -> None:
        answer = await model.infer(
            readings[index].row, outputs=(output,), deadline=deadline, priority=priority
        )
        rows[index] = answer.outputs[output][0]
        watches[index].add(answer)

    if len(readings) == 1:
        await run(0)
        return rows
    # Short ones first, so that those of like length wait side by side.
    order = sorted(range(len(readings)), key=lambda index: readings[index].length)
    try:
        await _run_windowed(run, [(index, readings[index].length) for index in order])
    except ResourceExhausted:
        # One text may be refused for those of its own call before it: then coming back does not help.
        batcher = next(iter(model.graphs.values())).batcher
        cost = sum(batcher.count_cost(reading.row) for reading in readings)
        needed_s = cost * batcher.load().s_per_cost
        if (left_s := deadline.remaining_s()) < needed_s:
            what = f"running {len(readings)} texts"
            raise DeadlineExceeded(what, left_s=left_s, needed_s=needed_s) from None
        raise
    return rows


async def _run_windowed(
    run: Callable[[int], Coroutine[Any, Any, None]], parts: Sequence[tuple[int, int]]
) -> None:
    """Run each of `parts` (index, tokens) beside the others, as many as fit the window at a time.

    Raises what the first to fail raises, once the others have ended.
    """
    running: dict[asyncio.Task[None], int] = {}
    try:
        for index, tokens in parts:
            while running and sum(running.values()) + tokens > _WINDOW_TOKENS:
                await _wait_first(running)
            running[asyncio.create_task(run(index))] = tokens
        while running:
            await _wait_first(running)
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
            # Of several failures one is told; asking for the others keeps them out of the log.
            for task in running:
                if not task.cancelled():
                    task.exception()


async def _wait_first(running: dict[asyncio.Task[None], int]) -> None:
    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        del running[task]
    # All are asked, so that of several failures none is logged as one that nobody has seen.
    for error in [task.exception() for task in done]:
        if error is not None:
            raise error
