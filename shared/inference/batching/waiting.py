"""What waits before a graph, what it becomes, and how much of it there is: plain values.

Not here: in which order items go (`order.py`), which of them run together (`queue.py`).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from shared.inference.datatypes import Array
from shared.rpc.caller import Priority
from shared.rpc.deadline import Deadline

__all__ = ["Answer", "Item", "Load", "Promise"]


@dataclass(slots=True)
class Answer:
    """What a graph gave for one item, and where the time went. The arrays are read-only.

    Never changed; frozen, each would take half a microsecond more.
    """

    outputs: dict[str, Array]
    queue_s: float  # until a batch took it
    batch_s: float  # joining the batch, splitting it, handing the answer over
    compute_s: float  # the run
    batch_size: int  # rows of the batch that it ran in; 1 for a graph without a batch axis
    share: float = 1.0  # of the batch's cost that is the item's own


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a batcher is; costs are in the graph's own unit, times are 0 as long as nothing is measured."""

    queued_items: int
    queued_cost: float
    running: int  # items that run now
    expected_wait_s: float  # until an item that comes now, behind all others, would begin to run
    s_per_cost: float  # in batches as large as they are let to become


class Promise(Protocol):
    """Who waits for an item: a future of asyncio, or what stands for one."""

    def done(self) -> bool:
        """Whether nobody waits any more; may be asked from any thread."""

    def set_result(self, answer: Answer, /) -> None:
        """Here it is."""

    def set_exception(self, error: BaseException, /) -> None:
        """There will be none."""


class Item:
    """One caller's tensors on their way through the queue. `inputs` are in the order of the graph's inputs."""

    # Written out: a dataclass cannot leave slots to be set by the queue, and one is made per call.
    __slots__ = (
        "bucket",
        "cost",
        "deadline_s",
        "density",
        "future",
        "inputs",
        "kind",
        "length",
        "outputs",
        "principal",
        "priority",
        "queued_ns",
        "rows",
        "start",
        "waiting",
    )

    def __init__(
        self,
        inputs: tuple[Array, ...],
        outputs: tuple[str, ...],
        shape: tuple[int, Hashable, int, int, float],
        *,
        deadline: Deadline,
        future: Promise,
        queued_ns: int,
        principal: str,
        priority: Priority,
    ) -> None:
        """`shape` is `ShapeRule.measure`'s."""
        self.inputs = inputs
        self.outputs = outputs
        self.rows, self.kind, self.bucket, self.length, self.cost = shape
        # Filled up to another length, it costs that much more or less: density * length.
        self.density = self.cost / self.length
        self.deadline_s = deadline.at_s
        self.future = future
        self.queued_ns = queued_ns
        self.principal = principal
        self.priority = priority
        self.waiting = False  # in a queue; set by it
        self.start = 0.0  # its turn among all principals'; set by the queue

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more; may be asked from any thread."""
        return self.future.done()
