"""Work on the pool is bounded, is not begun for nobody, and keeps to the call's deadline."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from shared.errors import DeadlineExceeded, ResourceExhausted
from shared.inference.executor import Check, Executor, run_in_executor, run_while_wanted
from shared.rpc.deadline import Deadline, current_deadline, set_deadline
from tests.support.waiting import within


@pytest.fixture
def executor() -> Iterator[Executor]:
    executor = Executor(threads=1, max_pending=2)
    yield executor
    executor.close()


class Gate:
    """Work that holds a thread until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self._open = threading.Event()

    def pass_through(self) -> str:
        self.begun.set()
        assert self._open.wait(10)
        return "through"

    def open(self) -> None:
        self._open.set()


async def hold(executor: Executor, gate: Gate) -> asyncio.Task[str]:
    task = asyncio.ensure_future(executor.run(gate.pass_through))
    await within(asyncio.to_thread(gate.begun.wait, 10))
    return task


async def test_results_errors_arguments_and_context_pass(executor: Executor) -> None:
    set_deadline(Deadline.after(20))
    assert await within(executor.run(divmod, 7, 2)) == (3, 1)
    assert await within(executor.run(sorted, [1, 2], reverse=True)) == [2, 1]
    assert await within(executor.run(current_deadline)) is current_deadline()
    with pytest.raises(ZeroDivisionError):
        await within(executor.run(divmod, 1, 0))
    assert await within(run_in_executor(threading.get_ident)) != threading.get_ident()


async def test_outside_of_a_call_there_is_no_deadline(executor: Executor) -> None:
    assert await within(executor.run(len, "four")) == 4


async def test_a_full_pool_refuses(executor: Executor) -> None:
    gate = Gate()
    first = await hold(executor, gate)
    second = asyncio.ensure_future(executor.run(len, "x"))
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted, match="2 waiting items"):
        await within(executor.run(len, "x"))
    gate.open()
    assert await within(first) == "through"
    assert await within(second) == 1
    assert await within(executor.run(len, "xy")) == 2


async def test_work_is_not_begun_for_who_left(executor: Executor) -> None:
    gate, begun = Gate(), threading.Event()
    first = await hold(executor, gate)
    second = asyncio.ensure_future(executor.run(begun.set))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(second)
    gate.open()
    await within(first)
    await within(executor.run(len, "x"))
    assert not begun.is_set()


async def test_who_waits_too_long_is_told_at_his_deadline_and_never_run(executor: Executor) -> None:
    gate, begun = Gate(), threading.Event()
    first = await hold(executor, gate)

    async def late() -> None:
        set_deadline(Deadline.after(0.02))
        await executor.run(begun.set)

    with pytest.raises(DeadlineExceeded):
        await within(asyncio.create_task(late()))
    gate.open()
    await within(first)
    await within(executor.run(len, "x"))
    assert not begun.is_set()


async def test_a_timer_that_rings_early_is_the_deadlines_all_the_same(executor: Executor) -> None:
    class Slow(Deadline):
        """Of a clock that is behind the event loop's, by less than that one's resolution as a rule."""

        @property
        def expired(self) -> bool:
            return False

    gate = Gate()
    set_deadline(Slow.after(0.02))
    with pytest.raises(DeadlineExceeded):
        await within(executor.run(gate.pass_through))
    gate.open()


async def test_the_works_own_timeout_is_not_the_deadlines(executor: Executor) -> None:
    set_deadline(Deadline.after(20))

    def time_out() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await within(executor.run(time_out))


async def test_work_runs_beside_the_event_loop(executor: Executor) -> None:
    gate = Gate()
    task = await hold(executor, gate)
    started_s = time.monotonic()
    await asyncio.sleep(0)
    assert time.monotonic() - started_s < 5
    gate.open()
    await within(task)


class Parts:
    """Work of two parts, which waits between them."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.ended = threading.Event()
        self.done = 0

    def work(self, check: Check) -> None:
        try:
            for _ in range(2):
                check()
                self.done += 1
                self.gate.pass_through()
        finally:
            self.ended.set()


async def test_long_work_ends_between_two_parts_when_the_caller_leaves() -> None:
    parts = Parts()
    set_deadline(Deadline.after(20))
    task = asyncio.ensure_future(run_while_wanted(parts.work))
    assert await within(asyncio.to_thread(parts.gate.begun.wait, 10))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(task)
    parts.gate.open()
    assert await within(asyncio.to_thread(parts.ended.wait, 10))
    assert parts.done == 1


async def test_long_work_ends_between_two_parts_at_the_deadline() -> None:
    parts = Parts()
    set_deadline(Deadline.after(0.2))
    with pytest.raises(DeadlineExceeded):
        await within(run_while_wanted(parts.work))
    parts.gate.open()
    if parts.done:
        assert await within(asyncio.to_thread(parts.ended.wait, 10))
    assert parts.done <= 1


async def test_long_work_that_is_wanted_is_done() -> None:
    set_deadline(Deadline.after(20))

    def work(check: Check, number: int) -> int:
        check()
        return number + 1

    assert await within(run_while_wanted(work, 1)) == 2
