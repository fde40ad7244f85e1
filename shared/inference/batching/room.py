"""The queue of one graph behind its lock: the event loop lets items in, the threads of its instances take batches out.

Here: who wakes whom, what runs now. Not here: which items make a batch (`queue.py`), running them (`instance.py`).
"""

from __future__ import annotations

import threading
import time

from shared.inference.batching.pace import Pace
from shared.inference.batching.queue import Batch, Queue
from shared.inference.batching.waiting import Item
from shared.inference.session.session import RunOptions

__all__ = ["Room", "Run"]


class Run:
    """One run at work."""

    __slots__ = ("batch", "expected_s", "options", "until_s")

    def __init__(self, batch: Batch, expected_s: float) -> None:
        self.batch = batch
        self.options = RunOptions()
        self.expected_s = expected_s  # 0 as long as nothing is known
        self.until_s = time.monotonic() + expected_s


class Room:
    """Where items wait, and what has been taken out of it. `changed` is the lock of all that is in here."""

    def __init__(self, queue: Queue, pace: Pace, instances: int) -> None:
        self.changed = threading.Condition(threading.Lock())
        self.queue = queue
        self.instances = instances
        self.running: set[Run] = set()
        self.closed = False
        self._pace = pace
        self._resting = 0  # threads that wait to be woken

    # Under the lock.

    def add(self, item: Item) -> None:
        """Let an item in, and wake a thread that has nothing to do."""
        self.queue.add(item)
        if self._resting:
            self.changed.notify()

    def until_free_s(self, now_s: float) -> float:
        """Seconds until the first instance is expected to be free; 0 if one is."""
        if len(self.running) < self.instances:
            return 0.0
        return max(min([run.until_s for run in self.running]) - now_s, 0.0)

    # From the event loop.

    def leave(self, item: Item) -> None:
        """Forget an item whose caller is gone; a run whose callers are all gone is asked to end."""
        with self.changed:
            if self.queue.remove(item):
                return
            for run in self.running:
                if all(other.gone for other in run.batch.items):
                    run.options.terminate = True

    def close(self) -> list[Item]:
        """Let nobody in any more, ask the runs to end, send the threads home. Gives the items that waited or run."""
        with self.changed:
            self.closed = True
            items = self.queue.clear()
            for run in self.running:
                run.options.terminate = True
                items += run.batch.items
            self.changed.notify_all()
        return items

    # From the threads.

    def wait(self, rest_s: float | None) -> bool | None:
        """Wait until a batch may run: True. False if nothing came for `rest_s` (None = wait on), None once it is closed."""
        with self.changed:
            while not self.closed:
                left_s = rest_s
                if len(self.queue):
                    left_s = self.queue.delay_s(time.monotonic())
                    if left_s <= 0:
                        return True
                self._resting += 1
                woken = self.changed.wait(left_s)
                self._resting -= 1
                if not (woken or self.closed or len(self.queue)):
                    return False
        return None

    def take(self) -> tuple[Run | None, list[Item]]:
        """The next run, which has begun with that, and the items that are too late to be in it. None if nobody waits."""
        with self.changed:
            batch, late = self.queue.pick(time.monotonic())
            return (self._begin(batch) if batch.items else None), late

    def begin(self, items: list[Item]) -> Run:
        """Begin a run of items that were taken before."""
        with self.changed:
            return self._begin(Batch(items))

    def end(self, run: Run) -> None:
        """Forget a run."""
        with self.changed:
            self.running.discard(run)
            if self.idle:
                self.queue.rest()

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs."""
        return not self.running and not len(self.queue)

    def _begin(self, batch: Batch) -> Run:
        run = Run(batch, self._pace.run_s(batch.padded_cost))
        if self.closed:
            run.options.terminate = True
        self.running.add(run)
        return run
