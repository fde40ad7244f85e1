"""Dynamic batching before one session: who waits, what runs together, who gets which rows back.

Here: one thread per session, the hand-over between it and the event loop, failures. Not here: signatures
(checked by the callers), sessions (`session/`), the order of the queue (`waiting.py`).

The thread takes its next batch by itself the moment it is done with one, so that a session is never idle
while somebody
waits: one batch runs, the next one forms in the queue. The event loop only lets items in and answers them.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from shared.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted, SensoriumError, Unavailable
from shared.inference.batching.batch import Joiner, UnevenOutputError, count_rows, split
from shared.inference.batching.statistics import BatchTimes, Statistics
from shared.inference.batching.waiting import Answer, Item, Load, Queue
from shared.inference.datatypes import Array
from shared.inference.isolation.guard import Guard
from shared.inference.manifest import Graph
from shared.inference.session.cores import CoreBudget
from shared.inference.session.session import RunError, RunOptions, Session
from shared.rpc.caller import Priority
from shared.rpc.deadline import Deadline
from shared.rpc.report import current_report
from shared.telemetry.logging import get_logger

__all__ = ["Answer", "Batcher", "Load"]

_log = get_logger("inference")

# Weight of the newest run in the running mean of cost: about the last ten runs count.
_NEWEST = 0.1
# Bounds of the advice when to come back after a refusal.
_MIN_RETRY_S, _MAX_RETRY_S = 0.05, 5.0
# How long nothing must come before memory is given back. Taking it again costs up to a quarter of a run, so
# that calls which come one by one, seconds apart, had better find it.
_REST_S = 5.0


class Batcher:
    """The way into one session. Made on the event loop that it serves; `close` ends its thread."""

    def __init__(
        self,
        session: Session,
        graph: Graph,
        *,
        name: str,
        max_batch_size: int,
        max_queue_size: int = 512,
        max_queue_delay_s: float = 0.0,
        target_batch_s: float = math.inf,
        worthwhile_rows: int = 1,
        rest_s: float = _REST_S,
        instances: int = 1,
        make_guard: Callable[[], Guard] | None = None,
        core_budget: CoreBudget | None = None,
        threads: int = 1,
        model: str = "",
        version: str = "",
    ) -> None:
        """Start the session's thread.

        `name` is the graph's public name, for messages. `max_batch_size` is in rows; 0 means that the first
        axis is no batch axis: items run alone, whatever their shapes. A batch ends before `max_batch_size`
        where it would be expected to run longer than `target_batch_s`. With `max_queue_delay_s` an idle
        session waits so long for its batch to fill. After `rest_s` without an item it gives its memory back.
        `instances` threads take from the one queue; `make_guard` makes each of them its guard, see
        `Isolation.guard`. A run takes `threads` of the `core_budget`. `model` and `version` are what a call's
        report says, `name` where they are left out.
        """
        self.name = name
        self.max_batch_size = max_batch_size
        self.statistics = Statistics()
        self._session = session
        self._inputs = tuple(tensor.name for tensor in graph.inputs)
        self._outputs = tuple(tensor.name for tensor in graph.outputs)
        self._joiner = Joiner(self._inputs)
        self._max_rows = max(max_batch_size, 1)
        self.max_queue_delay_s = max_queue_delay_s
        # Set anew, from any thread, once it is measured.
        self.worthwhile_rows = worthwhile_rows
        self._target_batch_ns = target_batch_s * 1e9
        self._ns_per_byte = 0.0  # running mean over runs; 0 until the first
        self._rest_s = rest_s
        self._guard = None if make_guard is None else make_guard()
        self._cores = None if core_budget is None else core_budget.use(threads)
        self._model, self._version = model or name, version
        self._loop = asyncio.get_running_loop()
        # What lies below is shared with the thread and changed under the condition's lock.
        self._changed = threading.Condition(threading.Lock())
        self._queue = Queue(max_queue_size)
        self._running: tuple[list[Item], RunOptions] | None = None
        self._resting = False
        self._closed = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        # A daemon, so that a process that dies without closing does not hang on it.
        self._thread = threading.Thread(target=self._work, name=f"batcher:{name}", daemon=True)
        self._thread.start()

    @property
    def queue_size(self) -> int:
        """Items that wait, without those that run."""
        return len(self._queue)

    def load(self) -> Load:
        """How busy it is now. To be asked on the event loop."""
        with self._changed:
            running = len(self._running[0]) if self._running is not None else 0
            queued_bytes = sum(item.n_bytes for item in self._queue)
            return Load(
                queued_items=len(self._queue),
                queued_cost=queued_bytes,
                running=running,
                expected_wait_s=queued_bytes * self._ns_per_byte / 1e9,
                s_per_cost=self._ns_per_byte / 1e9,
            )

    async def submit(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        deadline: Deadline,
        *,
        priority: Priority | None = None,
    ) -> Answer:
        """Run one item, alone or with others of its kind, and wait for its rows of the answer.

        `inputs` has every input of the graph, with its dtype; where the graph batches, axis 0 is the rows,
        which stay together. They must not be changed before the answer. `outputs` are the wanted outputs,
        none meaning all.

        Raises:
            InvalidArgument: more rows than `max_batch_size`, unequal rows, or the graph failed on these
            values.
            ResourceExhausted: the queue is full.
            DeadlineExceeded: the deadline passed; the item was not run, or the answer came too late.
            Unavailable: the batcher is closed.
        """
        deadline.check(f"entering the queue of {self.name}")
        item = self._make_item(inputs, outputs, deadline)
        self._enter(item)
        timer = self._loop.call_later(deadline.remaining_s(), self._expire, item)
        try:
            answer = await item.future
            if (report := current_report()) is not None:
                report.add(
                    answer.queue_s,
                    answer.batch_s,
                    answer.compute_s,
                    answer.batch_size,
                    self._model,
                    self._version,
                )
            return answer
        except asyncio.CancelledError:
            # Cancelled after the answer was set, there is nothing left to leave.
            if item.future.cancelled():
                self._leave(item)
            raise
        finally:
            timer.cancel()

    async def close(self) -> None:
        """Refuse who waits and who comes, end the run at work early, and wait for the thread's end."""
        with self._changed:
            self._closed = True
            waiting = self._queue.clear()
            if self._running is not None:
                self._running[1].terminate = True
            self._changed.notify()
        self._fail_all(waiting, self._closing_error)
        await asyncio.shield(self._ended)

    # On the event loop.

    def _make_item(self, inputs: Mapping[str, Array], outputs: Sequence[str], deadline: Deadline) -> Item:
        arrays = tuple(inputs[name] for name in self._inputs)
        wanted = tuple(outputs) or self._outputs
        rows, kind = 1, None
        if self.max_batch_size:
            rows = count_rows(inputs, self.max_batch_size, self.name)
            kind = (wanted, *((array.dtype.char, array.shape[1:]) for array in arrays))
        return Item(
            inputs=arrays,
            outputs=wanted,
            rows=rows,
            kind=kind,
            deadline=deadline,
            future=self._loop.create_future(),
            queued_ns=time.monotonic_ns(),
            n_bytes=sum(array.nbytes for array in arrays),
        )

    def _enter(self, item: Item) -> None:
        with self._changed:
            if self._closed:
                raise self._closing_error()
            if not self._queue.is_full:
                self._queue.add(item)
                if self._resting:
                    self._changed.notify()
                return
            waiting_bytes = sum(other.n_bytes for other in self._queue)
        self.statistics.record_failure(0)
        retry_s = min(max(waiting_bytes * self._ns_per_byte / 1e9, _MIN_RETRY_S), _MAX_RETRY_S)
        raise ResourceExhausted(
            f"queue of {self.name}",
            limit=f"{self._queue.max_size} waiting items",
            retry_after_s=round(retry_s, 2),
        )

    def _expire(self, item: Item) -> None:
        if not item.gone:
            item.future.set_exception(DeadlineExceeded(f"waiting for {self.name}"))
            self._leave(item)

    def _leave(self, item: Item) -> None:
        """Forget an item whose caller is gone; a run for callers who are all gone is asked to end."""
        with self._changed:
            self._queue.remove(item)
            if self._running is not None and all(other.gone for other in self._running[0]):
                self._running[1].terminate = True
        self.statistics.record_failure(time.monotonic_ns() - item.queued_ns)

    def _answer(
        self, items: list[Item], outputs: list[dict[str, Array]], started_ns: int, times: BatchTimes
    ) -> None:
        ended_ns = time.monotonic_ns()
        rows = sum(item.rows for item in items)
        batch_s, compute_s = (times.input_ns + times.output_ns) / 1e9, times.infer_ns / 1e9
        self.statistics.record_batch(rows, times)
        for item, answer in zip(items, outputs, strict=True):
            # Who left while it ran was counted when he left.
            if not item.gone:
                queue_ns = started_ns - item.queued_ns
                item.future.set_result(Answer(answer, queue_ns / 1e9, batch_s, compute_s, rows))
                self.statistics.record_success(item.rows, ended_ns - item.queued_ns, queue_ns, times)

    def _fail_all(self, items: Sequence[Item], make_error: Callable[[], BaseException]) -> None:
        ended_ns = time.monotonic_ns()
        for item in items:
            if not item.gone:
                item.future.set_exception(make_error())
                self.statistics.record_failure(ended_ns - item.queued_ns)

    def _closing_error(self) -> SensoriumError:
        return Unavailable(f"model {self.name}", reason="it is being closed", retry_after_s=1.0)

    # On the thread.

    def _work(self) -> None:
        # At first there is what the runs of loading have left.
        kept: float | None = self._rest_s
        while (items := self._take(kept)) is not None:
            if items:
                self._run(items)
                kept = self._rest_s
            else:
                self._session.release_memory()
                kept = None
            # What was answered is not held while nothing comes.
            del items
        self._call_loop(self._ended.set_result, None)

    def _take(self, rest_s: float | None) -> list[Item] | None:
        """Wait for the next batch and take it out of the queue; None once the batcher is closed.

        [] if nothing came for `rest_s` seconds (None = wait on).
        """
        with self._changed:
            while not self._closed:
                max_bytes = self._target_batch_ns / self._ns_per_byte if self._ns_per_byte else math.inf
                picked = self._queue.pick(self._max_rows, self.worthwhile_rows, max_bytes)
                now_s = time.monotonic()
                dead = [item for item in picked if item.gone or item.deadline.at_s <= now_s]
                if dead:
                    # Nothing runs for them. Who expired is answered by his timer, which is due as well.
                    for item in dead:
                        self._queue.remove(item)
                    continue
                left_s = self._measure_delay(picked, now_s)
                if picked and left_s <= 0:
                    for item in picked:
                        self._queue.remove(item)
                    return picked
                self._resting = True
                woken = self._changed.wait(left_s if picked else rest_s)
                self._resting = False
                if not (woken or picked or self._closed or len(self._queue)):
                    return []
        return None

    def _measure_delay(self, picked: list[Item], now_s: float) -> float:
        """Seconds that the oldest item may still wait for its batch to fill."""
        if not picked or self.max_queue_delay_s <= 0:
            return 0.0
        if sum(item.rows for item in picked) >= self._max_rows:
            return 0.0
        return picked[0].queued_ns / 1e9 + self.max_queue_delay_s - now_s

    def _run(self, items: list[Item]) -> None:
        """Run one batch and hand its answers to the event loop; a failing one is split until the guilty is alone."""
        options = RunOptions()
        with self._changed:
            if self._closed:
                options.terminate = True
            self._running = (items, options)
        started_ns = time.monotonic_ns()
        try:
            outputs, times = self._compute(items, options, started_ns)
        # Whatever a run raises belongs to its callers: they would wait for ever, and the thread would end.
        except Exception as error:  # noqa: BLE001
            self._running = None
            self._settle_failure(items, error)
            return
        self._running = None
        n_bytes = sum(item.n_bytes for item in items)
        cost = times.infer_ns / max(n_bytes, 1)
        self._ns_per_byte += (cost - self._ns_per_byte) * (_NEWEST if self._ns_per_byte else 1.0)
        self._call_loop(self._answer, items, outputs, started_ns, times)

    def _compute(
        self, items: list[Item], options: RunOptions, started_ns: int
    ) -> tuple[list[dict[str, Array]], BatchTimes]:
        feed = self._joiner.join([item.inputs for item in items])
        joined_ns = time.monotonic_ns()
        results = self._run_session(feed, items[0].outputs, options)
        ran_ns = time.monotonic_ns()
        outputs = split(items[0].outputs, results, [item.rows for item in items])
        done_ns = time.monotonic_ns()
        return outputs, BatchTimes(joined_ns - started_ns, ran_ns - joined_ns, done_ns - ran_ns)

    def _run_session(
        self, feed: Mapping[str, Array], outputs: Sequence[str], options: RunOptions
    ) -> list[Array]:
        with contextlib.nullcontext() if self._cores is None else self._cores:
            if self._guard is None:
                return self._session.run(feed, outputs, options)
            self._guard.begin(options, 0.0)
            try:
                return self._session.run(feed, outputs, options)
            finally:
                self._guard.end()

    def _settle_failure(self, items: list[Item], error: Exception) -> None:
        if isinstance(error, UnevenOutputError):
            _log.warning(
                "graph has no batch axis, runs alone from now on", model=self.name, reason=str(error)
            )
            self._max_rows = 1
            halves = [[item] for item in items]
        elif len(items) > 1:
            middle = len(items) // 2
            halves = [items[:middle], items[middle:]]
        else:
            item = items[0]
            self._call_loop(self._fail_all, items, lambda: self._explain(item, error))
            return
        now_s = time.monotonic()
        for half in halves:
            if alive := [item for item in half if not item.gone and item.deadline.at_s > now_s]:
                self._run(alive)

    def _explain(self, item: Item, error: Exception) -> BaseException:
        """What the caller of an item that failed alone is told."""
        if self._closed:
            return self._closing_error()
        if not isinstance(error, RunError):
            return error
        shapes = ", ".join(
            f"{name} {list(array.shape)}" for name, array in zip(self._inputs, item.inputs, strict=True)
        )
        if error.out_of_memory:
            return ResourceExhausted(
                f"memory to run {self.name} on {shapes}", limit="what the replica has", retry_after_s=None
            )
        return InvalidArgument("inputs", expected=f"values that {self.name} can process", got=str(error))

    def _call_loop(self, function: Callable[..., object], *arguments: object) -> None:
        # A loop that is closed has no callers left to answer.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)
