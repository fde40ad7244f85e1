"""One bounded pool of threads of the process, for pre- and postprocessing. Sessions have threads of their
own.

Decoding and tokenizing release the GIL for most of their time, so that threads are of use; more of them than
cores are not, hence one pool for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

from shared.errors import QUEUE_FULL, DeadlineExceeded, ResourceExhausted
from shared.inference.settings import count_cores
from shared.rpc.deadline import Deadline, current_deadline
from shared.rpc.report import current_report

# Called between the parts of long work; raises when nobody waits for it any more.
Check = Callable[[], None]

P = ParamSpec("P")
T = TypeVar("T")

# Work that waits for a thread. Each is one image, text or clip whose bytes are in memory already; at some
# milliseconds each, this many are a few seconds of work.
MAX_PENDING = 1024
# Weight of the newest function in the running mean of what one takes: about the last fifty count.
_NEWEST = 0.02
# For messages.
_WANTED = "pre- or postprocessing"
# A refusal costs the caller more than this.
_MIN_RETRY_S = 0.05


class Executor:
    """A bounded pool: at most `max_pending` functions wait or run, the next one is refused."""

    def __init__(self, threads: int, max_pending: int = MAX_PENDING) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="processing")
        self._threads = threads
        self._max_pending = max_pending
        self._work_s = 0.0  # running mean of what a function takes
        self._pending = 0

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function on the pool, in a copy of the caller's context, until the call's deadline.

        It is not begun for a caller who left or whose deadline has passed; once begun it runs to its end.

        Raises:
            ResourceExhausted: too many wait already.
            DeadlineExceeded: the deadline of the call passed first.
        """
        if self._pending >= self._max_pending:
            raise ResourceExhausted(
                "queue for pre- and postprocessing",
                limit=f"{self._max_pending} waiting items",
                # By then those that wait now are through.
                retry_after_s=round(max(self._pending * self._work_s / self._threads, _MIN_RETRY_S), 3),
                reason=QUEUE_FULL,
            )
        deadline = _find_deadline()
        context = contextvars.copy_context()
        work = functools.partial(function, *args, **kwargs)
        self._pending += 1
        times = _Times(time.monotonic())
        future = self._pool.submit(context.run, _begin, deadline, work, times)
        # Counted until it is over, not until its caller leaves: a thread at work is taken.
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: _call_loop(loop, self._forget))
        timeout = asyncio.timeout(None if deadline is None else deadline.remaining_s())
        try:
            async with timeout:
                result = await asyncio.wrap_future(future)
        except TimeoutError:
            # The function's own TimeoutError, if it has one, is not the deadline's. The timer is asked, not the deadline:
            # the event loop rings up to its clock's resolution early.
            if not timeout.expired():
                raise
            raise DeadlineExceeded(_WANTED) from None
        work_s = times.ended_s - times.begun_s
        self._work_s += _NEWEST * (work_s - self._work_s)
        if (report := current_report()) is not None:
            report.add_wait(times.begun_s - times.queued_s, work_s)
        return result

    def close(self) -> None:
        """Forget who waits, and end the threads once their work is done."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _forget(self) -> None:
        self._pending -= 1


@functools.cache
def _get_executor() -> Executor:
    return Executor(threads=count_cores())


async def run_in_executor(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function on the process's pool, see `Executor.run`."""
    return await _get_executor().run(function, *args, **kwargs)


async def run_while_wanted(
    function: Callable[Concatenate[Check, P], T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run a long function on the process's pool, see `Executor.run`, and end it early once nobody waits for it.

    `function` gets a `Check` as its first argument, to be called between its parts: it raises DeadlineExceeded once the
    call's deadline has passed or the caller has left, so that the thread is free for others.
    """
    left = threading.Event()
    deadline = _find_deadline()

    def check() -> None:
        if left.is_set():
            raise DeadlineExceeded(_WANTED)  # read by nobody
        if deadline is not None:
            deadline.check(_WANTED)

    try:
        return await run_in_executor(function, check, *args, **kwargs)
    finally:
        left.set()


@dataclass(slots=True)
class _Times:
    """When a function was handed in, begun and ended."""

    queued_s: float
    begun_s: float = 0.0
    ended_s: float = 0.0


def _begin(deadline: Deadline | None, work: Callable[[], T], times: _Times) -> T:
    if deadline is not None:
        deadline.check("waiting for pre- or postprocessing")
    times.begun_s = time.monotonic()
    result = work()
    times.ended_s = time.monotonic()
    return result


def _find_deadline() -> Deadline | None:
    try:
        return current_deadline()
    except LookupError:
        return None  # outside of a call, e.g. while models are loaded


def _call_loop(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    # The loop may have closed while the thread was at work.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function)
