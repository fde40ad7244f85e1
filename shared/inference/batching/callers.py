"""What those who wait for items are told: answers, refusals, and whose fault a failed run was.

Here: on the event loop, and counted. Not here: who waits (`batcher.py`), which item of a failed batch is the guilty one
(`instance.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from shared.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted, SensoriumError, Unavailable
from shared.inference.batching.room import Room, Run
from shared.inference.batching.statistics import BatchTimes, Failure, Statistics
from shared.inference.batching.waiting import Answer, Item
from shared.inference.datatypes import Array
from shared.inference.session.session import RunError

__all__ = ["Callers"]

# Bounds of the advice when to come back after a refusal.
_MIN_RETRY_S, _MAX_RETRY_S = 0.05, 5.0


class Callers:
    """Those who wait for one graph."""

    def __init__(self, name: str, inputs: Sequence[str], room: Room, statistics: Statistics) -> None:
        """`name` is the graph's public name, `inputs` are its inputs' in order."""
        self._name = name
        self._inputs = tuple(inputs)
        self._room = room
        self._statistics = statistics

    def answer(
        self, run: Run, outputs: list[dict[str, Array]], started_ns: int, done_ns: int, times: BatchTimes
    ) -> None:
        """Give each item of a run that has succeeded its outputs."""
        ended_ns = time.monotonic_ns()
        batch = run.batch
        rows = batch.rows
        batch_s = (times.input_ns + times.output_ns + ended_ns - done_ns) / 1e9
        compute_s = times.infer_ns / 1e9
        answered_rows = 0
        total_ns: list[int] = []
        queue_ns: list[int] = []
        for item, answer in zip(batch.items, outputs, strict=True):
            # Who left while it ran was counted when he left.
            if not item.future.done():
                queued_ns = item.queued_ns
                waited_ns = started_ns - queued_ns
                share = item.cost / batch.cost if batch.cost else 1.0
                item.future.set_result(Answer(answer, waited_ns / 1e9, batch_s, compute_s, rows, share))
                answered_rows += item.rows
                total_ns.append(ended_ns - queued_ns)
                queue_ns.append(waited_ns)
        self._statistics.record_batch(
            rows,
            times,
            answered_rows=answered_rows,
            total_ns=total_ns,
            queue_ns=queue_ns,
            cost=batch.cost,
            padded_cost=batch.padded_cost,
        )

    def fail_all(
        self, items: Sequence[Item], reason: Failure, make_error: Callable[[], BaseException]
    ) -> None:
        """Tell all who are still there the same, each in an error of his own."""
        for item in items:
            if not item.gone:
                self._fail(item, reason, make_error())

    def fail(self, item: Item, error: Exception) -> None:
        """Tell the caller of an item that failed alone why."""
        if not item.gone:
            self._fail(item, Failure.FAILED, self._explain(item, error))

    def interrupt(self, items: Sequence[Item]) -> None:
        """A run was told to end by somebody else than its callers, and nobody knows whose fault it was."""
        reason = "it is being closed" if self._room.closed else "a run of it took too long and was ended"
        self.fail_all(
            items,
            Failure.FAILED,
            lambda: Unavailable(f"model {self._name}", reason=reason, retry_after_s=1.0),
        )

    def refuse_late(self, items: Sequence[Item]) -> None:
        """Items were not run, for they would not be done by their deadlines."""
        now_s = time.monotonic()
        for item in items:
            if item.gone:
                continue
            left_s, waited_s = item.deadline_s - now_s, now_s - item.queued_ns / 1e9
            if left_s <= 0:
                self._fail(item, Failure.EXPIRED, DeadlineExceeded(f"waiting for {self._name}"))
            else:
                limit = f"what can be run in the {left_s:.3g} s to the deadline"
                self._fail(item, Failure.REFUSED, self.refuse(limit, waited_s))

    def refuse(self, limit: str, wait_s: float, reason: str = "") -> ResourceExhausted:
        """The error for an item that is not let in or not run, since so much else is before it."""
        retry_s = round(min(max(wait_s, _MIN_RETRY_S), _MAX_RETRY_S), 2)
        return ResourceExhausted(f"queue of {self._name}", limit=limit, retry_after_s=retry_s, reason=reason)

    def closing_error(self) -> SensoriumError:
        """The error for everybody once the batcher is closed."""
        return Unavailable(f"model {self._name}", reason="it is being closed", retry_after_s=1.0)

    def _fail(self, item: Item, reason: Failure, error: BaseException) -> None:
        item.future.set_exception(error)
        self._statistics.record_failure(reason, time.monotonic_ns() - item.queued_ns)

    def _explain(self, item: Item, error: Exception) -> BaseException:
        """What the caller of an item that failed alone is told."""
        if self._room.closed:
            return self.closing_error()
        if not isinstance(error, RunError):
            return error
        shapes = ", ".join(
            f"{name} {list(array.shape)}" for name, array in zip(self._inputs, item.inputs, strict=True)
        )
        if error.out_of_memory:
            return ResourceExhausted(
                f"memory to run {self._name} on {shapes}", limit="what the replica has", retry_after_s=None
            )
        return InvalidArgument("inputs", expected=f"values that {self._name} can process", got=str(error))
