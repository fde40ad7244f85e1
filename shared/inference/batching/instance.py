"""One instance of a graph: a thread that takes batch after batch, runs it and hands the answers over.

Here: runs, and what becomes of those that fail. Not here: what makes a batch (`queue.py`), answers and errors as the
callers get them (`batcher.py`).

The thread takes its next batch by itself the moment it is done with one, so that the session is never idle while
somebody waits: one batch runs, the next one forms in the queue.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from enum import Enum, auto

from shared.inference.batching.batch import Joiner, Splitter, UnevenOutputError
from shared.inference.batching.pace import Pace
from shared.inference.batching.queue import Batch, Limits
from shared.inference.batching.room import Room, Run
from shared.inference.batching.statistics import BatchTimes
from shared.inference.datatypes import Array
from shared.inference.isolation.guard import Guard
from shared.inference.manifest import Graph
from shared.inference.session.cores import CoreUse
from shared.inference.session.session import Session
from shared.telemetry.logging import get_logger

__all__ = ["Instance", "Told"]

_log = get_logger("inference")


class Told(Enum):
    """What a thread tells of items, and with what."""

    ANSWERED = auto()  # run, outputs of each of its items, nanosecond at which it began and was done, times
    FAILED = auto()  # an item that failed alone, error
    INTERRUPTED = auto()  # items of a run that was told to end by somebody else than its callers
    LATE = auto()  # items that were not run, for they would not be done by their deadlines
    ENDED = auto()  # the instance


class Instance:
    """A thread over one session. It begins with `start` and ends when the room is closed."""

    def __init__(
        self,
        room: Room,
        session: Session,
        graph: Graph,
        *,
        name: str,
        tell: Callable[..., None],
        pace: Pace,
        limits: Limits,
        guard: Guard | None,
        cores: CoreUse | None,
        rest_s: float,
    ) -> None:
        """`tell` is called from the thread, with a `Told` and what it says there."""
        self._room = room
        self._session = session
        self._name = name
        self._tell = tell
        self._pace = pace
        self._limits = limits
        self._guard = guard
        self._cores: contextlib.AbstractContextManager[None] = cores or contextlib.nullcontext()
        self._rest_s = rest_s
        pad = graph.batching.pad
        self._padded = pad is not None
        self._joiner = Joiner([tensor.name for tensor in graph.inputs], pad)
        self._splitter = Splitter(pad)
        # A daemon, so that a process that dies without closing does not hang on it.
        self._thread = threading.Thread(target=self._work, name=f"batcher:{name}", daemon=True)

    def start(self) -> None:
        """Begin to take batches."""
        self._thread.start()

    def run_here(self, batch: Batch, started_ns: int) -> tuple[Run, list[dict[str, Array]], BatchTimes]:
        """Run a batch on the calling thread, of an instance that was not started. Nothing is told of it, and no cores are
        taken: it is for runs that are over before anybody could be asked.

        Raises:
            RunError, UnevenOutputError: the graph failed on these values.
        """
        run = Run(batch, self._pace.run_s(batch.padded_cost))
        outputs, times = self._compute(run, started_ns)
        taken_ns = times.input_ns + times.infer_ns + times.output_ns
        self._pace.learn(batch.padded_cost, taken_ns / 1e9)
        return run, outputs, times

    def close(self) -> None:
        """The end of an instance that was not started."""
        if self._guard is not None:
            self._guard.close()

    def _work(self) -> None:
        # At first there is what the runs of loading have left.
        kept: float | None = self._rest_s
        while (ready := self._room.wait(kept)) is not None:
            if ready:
                # With the cores in hand, so that who comes while they are waited for is in the batch.
                with self._cores:
                    self._take()
                kept = self._rest_s
            else:
                if self._room.idle:
                    self._session.release_memory()
                kept = None
        self.close()
        self._tell(Told.ENDED, self)

    def _take(self) -> None:
        run, late = self._room.take()
        if late:
            self._tell(Told.LATE, late)
        if run is not None:
            self._run(run)

    def _run(self, run: Run) -> None:
        """Run one batch and hand its answers over; a failing one is split until the guilty is alone."""
        started_ns = time.monotonic_ns()
        try:
            outputs, times = self._compute(run, started_ns)
        # Whatever a run raises belongs to its callers: they would wait for ever, and the thread would end.
        except Exception as error:  # noqa: BLE001
            self._room.end(run)
            self._settle_failure(run, error)
            return
        self._room.end(run)
        taken_ns = times.input_ns + times.infer_ns + times.output_ns
        self._pace.learn(run.batch.padded_cost, taken_ns / 1e9)
        self._tell(Told.ANSWERED, run, outputs, started_ns, time.monotonic_ns(), times)

    def _compute(self, run: Run, started_ns: int) -> tuple[list[dict[str, Array]], BatchTimes]:
        items = run.batch.items
        feed = self._joiner.join([item.inputs for item in items])
        wanted = items[0].outputs
        joined_ns = time.monotonic_ns()
        guard = self._guard
        if guard is None:
            results = self._session.run(feed, wanted, run.options)
        else:
            guard.begin(run.options, run.expected_s)
            try:
                results = self._session.run(feed, wanted, run.options)
            finally:
                guard.end()
        ran_ns = time.monotonic_ns()
        lengths = [item.length for item in items] if self._padded else ()
        outputs = self._splitter.split(wanted, results, [item.rows for item in items], lengths)
        done_ns = time.monotonic_ns()
        return outputs, BatchTimes(joined_ns - started_ns, ran_ns - joined_ns, done_ns - ran_ns)

    def _settle_failure(self, run: Run, error: Exception) -> None:
        items = run.batch.items
        if isinstance(error, UnevenOutputError):
            _log.warning(
                "graph has no batch axis, runs alone from now on", model=self._name, reason=str(error)
            )
            self._limits.max_rows = 1
            parts = [[item] for item in items]
        elif run.options.terminate:
            # Nobody is left, or the guard has ended it: run again, its parts would hang again.
            self._tell(Told.INTERRUPTED, items)
            return
        elif len(items) > 1:
            middle = len(items) // 2
            parts = [items[:middle], items[middle:]]
        else:
            self._tell(Told.FAILED, items[0], error)
            return
        for part in parts:
            now_s = time.monotonic()
            if alive := [item for item in part if not item.gone and item.deadline_s > now_s]:
                self._run(self._room.begin(alive))
