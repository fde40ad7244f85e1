"""Dynamic batching before one session: who is let in, who gets which answer, what is told of the load.

Here: the event loop's side of it: items, deadlines, refusals. Not here: signatures (checked by the callers), sessions
(`session/`), what runs together (`queue.py`), the threads that run it (`instance.py`), answers and errors (`callers.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shared.errors import (
    QUEUE_FULL,
    DeadlineExceeded,
    SensoriumError,
)
from shared.inference.batching.callers import Callers
from shared.inference.batching.express import Express
from shared.inference.batching.instance import Instance, Told
from shared.inference.batching.pace import Pace
from shared.inference.batching.queue import Limits, Queue
from shared.inference.batching.room import Room
from shared.inference.batching.shape import Shape, ShapeRule
from shared.inference.batching.statistics import Failure, Statistics
from shared.inference.batching.waiting import Answer, Item, Load, Promise
from shared.inference.datatypes import Array
from shared.inference.isolation.guard import Guard
from shared.inference.manifest import Graph
from shared.inference.session.cores import CoreBudget
from shared.inference.session.session import Session
from shared.rpc.alarm import Alarms
from shared.rpc.caller import Priority, current_caller
from shared.rpc.deadline import Deadline
from shared.rpc.report import Report, current_report

__all__ = ["Answer", "Batcher", "Load"]

# How long nothing must come before memory is given back. Taking it again costs up to a quarter of a run, so
# that calls which come one by one, seconds apart, had better find it.
_REST_S = 5.0


class Batcher:
    """The way into one session. Made on the event loop that it serves; `close` ends its threads."""

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
        worthwhile_cost: float = 1.0,
        rest_s: float = _REST_S,
        instances: int = 1,
        make_guard: Callable[[], Guard] | None = None,
        core_budget: CoreBudget | None = None,
        threads: int = 1,
        model: str = "",
        version: str = "",
    ) -> None:
        """Start the session's threads.

        `name` is the graph's public name, for messages. `max_batch_size` is in rows; 0 means that the first
        axis is no batch axis: items run alone, whatever their shapes. Costs and lengths are as the graph's `batching`
        says. A batch ends before `max_batch_size` where it would be expected to run longer than `target_batch_s`, but
        not below `worthwhile_cost`. With `max_queue_delay_s` an idle session waits so long for its batch to fill, or as
        long as its run is expected to take, whichever is shorter. After `rest_s` without an item it gives its memory
        back. `instances` threads take from the one queue; `make_guard` makes each of them its guard, see
        `Isolation.guard`. A run takes `threads` of the `core_budget`. `model` and `version` are what a call's
        report says, `name` where they are left out.
        """
        self.name = name
        self.max_batch_size = max_batch_size
        self.max_queue_delay_s = max_queue_delay_s
        self.statistics = Statistics()
        self.pace = Pace()
        self._inputs = tuple(tensor.name for tensor in graph.inputs)
        self._outputs = tuple(tensor.name for tensor in graph.outputs)
        self._shapes = ShapeRule(graph, name=name, max_batch_size=max_batch_size)
        self._model, self._version = model or name, version
        self._loop = asyncio.get_running_loop()
        self._alarms = Alarms(self._loop, self._expire)
        self._limits = Limits(
            max_rows=max(max_batch_size, 1),
            max_cost=graph.batching.max_cost or math.inf,
            worthwhile_cost=worthwhile_cost,
            target_s=target_batch_s,
            max_delay_s=max_queue_delay_s,
        )
        self._room = Room(Queue(max_queue_size, self._limits, self.pace), self.pace, instances)
        self._callers = Callers(name, self._inputs, self._room, self.statistics)
        self._told: dict[Told, Callable[..., None]] = {
            Told.ANSWERED: self._callers.answer,
            Told.FAILED: self._callers.fail,
            Told.INTERRUPTED: self._callers.interrupt,
            Told.LATE: self._callers.refuse_late,
            Told.ENDED: self._remove_instance,
        }
        self._ended: asyncio.Future[None] = self._loop.create_future()

        def make_instance() -> Instance:
            return Instance(
                self._room,
                session,
                graph,
                name=name,
                tell=self._tell,
                pace=self.pace,
                limits=self._limits,
                guard=None if make_guard is None else make_guard(),
                cores=None if core_budget is None else core_budget.use(threads),
                rest_s=rest_s,
            )

        self._express = Express(
            self._loop, self._room, make_instance, answer=self._callers.answer, hand_over=self._hand_over
        )
        self._instances = {make_instance() for _ in range(instances)}
        for instance in self._instances:
            instance.start()

    @property
    def queue_size(self) -> int:
        """Items that wait, without those that run."""
        return len(self._room.queue)

    @property
    def worthwhile_cost(self) -> float:
        """Cost up to which a batch grows however long it takes; set anew, from any thread, once it is measured."""
        return self._limits.worthwhile_cost

    @worthwhile_cost.setter
    def worthwhile_cost(self, cost: float) -> None:
        self._limits.worthwhile_cost = cost

    @property
    def express_rows(self) -> int:
        """Rows whose run is so short that it is made on the event loop; 0 = none. Set from any thread, once measured."""
        return self._express.rows

    @express_rows.setter
    def express_rows(self, rows: int) -> None:
        self._express.rows = rows

    def count_cost(self, inputs: Mapping[str, Array]) -> float:
        """What a run of these inputs costs, in the graph's own unit."""
        return self._shapes.count_cost(inputs, self._inputs)

    def load(self) -> Load:
        """How busy it is now. To be asked on the event loop."""
        room, pace = self._room, self.pace
        with room.changed:
            limit = room.queue.cost_limit()
            per_batch_s = pace.fixed_s / limit if 0 < limit < math.inf else 0.0
            wait_s = room.until_free_s(time.monotonic()) + room.queue.expected_s() / room.instances
            return Load(
                queued_items=len(room.queue),
                queued_cost=room.queue.cost,
                running=sum([len(run.batch.items) for run in room.running]),
                expected_wait_s=wait_s,
                s_per_cost=pace.s_per_cost + per_batch_s,
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
        none meaning all. `priority` is the caller's where it is left out; it can only be lowered.

        Raises:
            InvalidArgument: more rows than `max_batch_size`, unequal rows or lengths, or the graph failed on these
            values.
            ResourceExhausted: the queue is full, or too long for the deadline.
            DeadlineExceeded: the deadline passed or could not be kept; the item was not run, or the answer came too
            late.
            Unavailable: the batcher is closed.
        """
        deadline.check(f"entering the queue of {self.name}")
        caller = current_caller()
        wanted = tuple(outputs) or self._outputs
        arrays = tuple([inputs[name] for name in self._inputs])
        future: asyncio.Future[Answer] = self._loop.create_future()
        item = Item(
            arrays,
            wanted,
            self._shapes.measure(inputs, arrays, wanted),
            deadline=deadline,
            future=future,
            queued_ns=time.monotonic_ns(),
            principal=caller.principal,
            priority=caller.priority if priority is None or priority < caller.priority else priority,
        )
        if self._express.takes(item.rows):
            self._express.add(item)
        else:
            self._enter(item)
            self._alarms.set(item.deadline_s, item)
        try:
            answer = await future
        except asyncio.CancelledError:
            # Cancelled after the answer was set, there is nothing left to leave.
            if future.cancelled():
                self._leave(item, Failure.CANCELLED)
            raise
        finally:
            self._alarms.clear(item.deadline_s, item)
        if (report := current_report()) is not None:
            self.report(answer, report)
        return answer

    def measure(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Shape:
        """What an item of such tensors is to the queue, for `begin`.

        Raises:
            InvalidArgument: more rows than `max_batch_size`, unequal rows or lengths.
        """
        arrays = tuple([inputs[name] for name in self._inputs])
        return self._shapes.measure(inputs, arrays, tuple(outputs) or self._outputs)

    def begin(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        shape: Shape,
        deadline: Deadline,
        principal: str,
        promise: Promise,
    ) -> None:
        """As `submit` on behalf of somebody who does not wait in a task, for an item that `takes_express`. `shape` is what
        `measure` said of such tensors. Call `run_express` when all are begun that have come together: most promises
        are kept then, all others on the event loop.
        """
        self._express.put(
            Item(
                tuple([inputs[name] for name in self._inputs]),
                tuple(outputs) or self._outputs,
                shape,
                deadline=deadline,
                future=promise,
                queued_ns=time.monotonic_ns(),
                principal=principal,
                priority=Priority.INTERACTIVE,
            )
        )

    def run_express(self) -> None:
        """Run what was begun."""
        self._express.run()

    def takes_express(self, shape: Shape) -> bool:
        """Whether such an item would be run on the event loop now."""
        return self._express.takes(shape[0])

    def report(self, answer: Answer, report: Report) -> None:
        """Count an answer in a call's report."""
        report.add(
            answer.queue_s,
            answer.batch_s,
            answer.compute_s,
            answer.batch_size,
            self._model,
            self._version,
            share=answer.share,
        )

    async def close(self) -> None:
        """Refuse who waits, who runs and who comes, end the runs at work early, and wait for the threads' end."""
        items = [*self._express.close(), *self._room.close()]
        self._callers.fail_all(items, Failure.FAILED, self._callers.closing_error)
        await asyncio.shield(self._ended)

    def _enter(self, item: Item) -> None:
        with self._room.changed:
            refusal = self._find_refusal(item)
            if refusal is None:
                self._room.add(item)
                return
        if not self._room.closed:
            self.statistics.record_failure(Failure.REFUSED, 0)
        raise refusal

    def _hand_over(self, item: Item) -> None:
        """Let an item in that was to run on the event loop and failed there."""
        with self._room.changed:
            self._room.add(item)
        self._alarms.set(item.deadline_s, item)

    def _find_refusal(self, item: Item) -> SensoriumError | None:
        """Why an item cannot be let in."""
        room, pace = self._room, self.pace
        queue, waiting = room.queue, len(room.queue)
        if room.closed:
            return self._callers.closing_error()
        now_s = item.queued_ns / 1e9
        if waiting >= queue.max_size:
            wait_s = queue.expected_s() / room.instances
            return self._callers.refuse(f"{queue.max_size} waiting items", wait_s, QUEUE_FULL)
        if not waiting and len(room.running) < room.instances:
            # However long it is expected to take: a wrong expectation mends itself only by being tried.
            return None
        left_s = item.deadline_s - now_s
        until_free_s = room.until_free_s(now_s)
        # The most that it can be: as if all others were before it, and each ran alone.
        if left_s >= until_free_s + pace.s_per_cost * (queue.cost + item.cost) + pace.fixed_s * (waiting + 1):
            return None
        run_s = pace.run_s(item.cost)
        if left_s < run_s:
            return DeadlineExceeded(f"running {self.name}", left_s=left_s, needed_s=run_s)
        before_s = until_free_s + queue.expected_before_s(item.principal, item.priority) / room.instances
        if left_s < before_s + run_s:
            return self._callers.refuse(f"what can be run in the {left_s:.3g} s to the deadline", before_s)
        return None

    def _expire(self, item: Item) -> None:
        if not item.gone:
            item.future.set_exception(DeadlineExceeded(f"waiting for {self.name}"))
            self._leave(item, Failure.EXPIRED)

    def _leave(self, item: Item, reason: Failure) -> None:
        """Forget an item whose caller is gone."""
        self._room.leave(item)
        self.statistics.record_failure(reason, time.monotonic_ns() - item.queued_ns)

    def _tell(self, what: Told, *about: Any) -> None:
        """Bring what a thread has to say to the event loop; on that thread."""
        # A loop that is closed has no callers left to answer.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._told[what], *about)

    def _remove_instance(self, instance: Instance) -> None:
        self._instances.discard(instance)
        if not self._instances and not self._ended.done():
            self._ended.set_result(None)
