"""Calls of a batcher under test: as somebody, at some priority, and waiting for its state instead of for time."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from shared.inference.batching.batcher import Answer, Batcher
from shared.rpc.caller import Caller, Priority, set_caller
from shared.rpc.deadline import Deadline
from tests.support.waiting import within

# Turns of the slow graph that no test waits for: only a run that is told to end does end.
FOREVER = 10**15
# A session that waits this long for its batch to fill: within a test, until it is full.
PATIENT_S = 9.0


def start(
    batcher: Batcher, inputs: dict[str, Any], *, principal: str = "", **options: Any
) -> asyncio.Task[Answer]:
    """Submit an item in a task of its own, as a principal."""
    deadline = options.pop("deadline", None) or Deadline.after(30)

    async def call() -> Answer:
        set_caller(Caller(principal=principal, priority=options.pop("caller_priority", Priority.INTERACTIVE)))
        return await batcher.submit(inputs, options.pop("outputs", ()), deadline, **options)

    return asyncio.ensure_future(call())


async def hold(batcher: Batcher) -> asyncio.Task[Answer]:
    """Occupies the session until the returned task is cancelled."""
    holder = start(batcher, {"x": np.array([FOREVER])}, principal="holder")
    await until_empty(batcher, 1)
    return holder


async def until_waiting(batcher: Batcher, count: int) -> None:
    """Until so many items wait."""
    async with asyncio.timeout(10):
        while batcher.queue_size != count:
            await asyncio.sleep(0)


async def until_empty(batcher: Batcher, submitted: int) -> None:
    """Until the session has taken what was submitted."""
    async with asyncio.timeout(10):
        for _ in range(submitted + 1):
            await asyncio.sleep(0)
        while batcher.queue_size:
            await asyncio.sleep(0)


async def release(holder: asyncio.Task[Answer]) -> None:
    """Ends what `hold` began."""
    holder.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(holder)
