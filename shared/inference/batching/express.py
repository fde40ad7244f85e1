"""Runs that are over sooner than a thread would be woken: tiny graphs run on the event loop itself.

Handing an item to a thread and its answer back takes two wake-ups and two turns of the interpreter's lock, about 80 µs when
calls come one by one. A graph that runs for less is faster, and costs less, where its items are. Those that come in one
burst run together all the same.

Here: when, and with whom. Not here: how long a graph's runs take (`repository/golden.py` measures it), the run itself
(`instance.py`). What fails here is run again by a thread, which finds the guilty item.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from shared.inference.batching.instance import Instance
from shared.inference.batching.queue import Batch
from shared.inference.batching.room import Room
from shared.inference.batching.waiting import Item

__all__ = ["Express"]

# A run that takes so much CPU time of the event loop's thread is none of those this is for. After so many of them, and more
# than one in ten, the graph's runs are left to its threads. CPU time, for on a crowded machine any run may have to wait.
_TOO_LONG_NS = 200_000
_STRIKES = 10
_LOOK_EVERY = 8
# One that takes so much held everybody up, and was the last.
_HOPELESS_NS = 50_000_000


class Express:
    """The event loop's own runs of one graph. `rows` are the most that may run together, 0 = none; set from any thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        room: Room,
        make_instance: Callable[[], Instance],
        *,
        answer: Callable[..., None],
        hand_over: Callable[[Item], None],
    ) -> None:
        """`make_instance` makes one that is not started, once there is a run for it; `hand_over` takes an item to the
        threads.
        """
        self.rows = 0
        self._loop = loop
        self._room = room
        self._make_instance = make_instance
        self._instance: Instance | None = None
        self._answer = answer
        self._hand_over = hand_over
        self._items: list[Item] = []
        self._runs = self._strikes = 0

    def takes(self, rows: int) -> bool:
        """Whether an item of so many rows is to run here: nobody waits or runs, before whom it would go."""
        room = self._room
        # Only this thread lets items in, so that an empty queue stays so.
        return rows <= self.rows and not room.running and not len(room.queue) and not room.closed

    def add(self, item: Item) -> None:
        """Run an item, with those that come before the event loop's next turn."""
        self._items.append(item)
        if len(self._items) == 1:
            self._loop.call_soon(self.run)

    def put(self, item: Item) -> None:
        """Run an item with the next `run`, which whoever puts it has to call, in the same turn."""
        self._items.append(item)

    def close(self) -> list[Item]:
        """Give up the items that have not run yet."""
        items, self._items = self._items, []
        if self._instance is not None:
            self._instance.close()
        return items

    def run(self) -> None:
        """Run all that there are."""
        items, self._items = self._items, []
        now_s = time.monotonic()
        for item in items:
            # The event loop was busy with something else: the threads refuse those that are too late.
            if item.deadline_s <= now_s and not item.future.done():
                self._hand_over(item)
        items = [item for item in items if item.deadline_s > now_s]
        while items:
            kind, batch, others = items[0].kind, Batch(), []
            for item in items:
                if item.future.done():
                    continue
                # Items of no kind run alone, as do all of a graph whose first axis turned out to be no batch axis.
                fits = batch.rows + item.rows <= min(self.rows, self._room.queue.limits.max_rows)
                if not batch.items or (fits and item.kind == kind and kind is not None):
                    batch.add(item)
                else:
                    others.append(item)
            items = others
            if batch.items:
                self._run_batch(batch)

    def _run_batch(self, batch: Batch) -> None:
        if self._instance is None:
            self._instance = self._make_instance()
        self._runs += 1
        # The kernel is asked for CPU time, which costs as much as the run: now and then is enough.
        looks = self._runs % _LOOK_EVERY == 0
        cpu_ns = time.thread_time_ns() if looks else 0
        started_ns = time.monotonic_ns()
        try:
            run, outputs, times = self._instance.run_here(batch, started_ns)
        # Whatever it is: a thread runs them again, finds the guilty item and tells its caller.
        except Exception:  # noqa: BLE001
            self._watch(time.monotonic_ns() - started_ns)
            for item in batch.items:
                self._hand_over(item)
            return
        if looks:
            self._watch(time.thread_time_ns() - cpu_ns)
        self._answer(run, outputs, started_ns, time.monotonic_ns(), times)

    def _watch(self, taken_ns: int) -> None:
        if taken_ns > _TOO_LONG_NS:
            self._strikes += 1
            if self._strikes > _STRIKES + self._runs // (10 * _LOOK_EVERY) or taken_ns > _HOPELESS_NS:
                self.rows = 0
