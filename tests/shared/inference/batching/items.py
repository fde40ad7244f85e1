"""Items for tests of the queue: no tensors, only what they cost and whose they are."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Hashable

import numpy as np

from shared.inference.batching.queue import Limits
from shared.inference.batching.shape import ShapeRule
from shared.inference.batching.waiting import Item
from shared.rpc.caller import Priority
from shared.rpc.deadline import Deadline
from tests.shared.inference.graphs import masked, signature_of

_RULE = ShapeRule(signature_of(masked(1000)), name="test/graph", max_batch_size=1000)


def make_item(
    principal: str = "",
    cost: float = 1.0,
    *,
    rows: int = 1,
    kind: Hashable = "kind",
    priority: Priority = Priority.INTERACTIVE,
    timeout_s: float = 3600.0,
) -> Item:
    """An item of a graph that is not padded."""
    return _make((rows, kind, 0, 1, cost), principal, priority, timeout_s)


def make_text(
    length: int,
    principal: str = "",
    *,
    rows: int = 1,
    priority: Priority = Priority.INTERACTIVE,
    timeout_s: float = 3600.0,
) -> Item:
    """An item of a padded graph; it costs its tokens."""
    x = np.ones((rows, length), np.int64)
    shape = _RULE.measure({"x": x, "mask": x}, (x, x), ("pick", "total"))
    return _make(shape, principal, priority, timeout_s)


def make_limits(**fields: float) -> Limits:
    """Limits of a queue, all open but for those that are given."""
    values: dict[str, float] = {
        "max_rows": 1000,
        "max_cost": math.inf,
        "worthwhile_cost": math.inf,
        "target_s": math.inf,
        "max_delay_s": 0.0,
        **fields,
    }
    return Limits(**values)  # type: ignore[arg-type]


def _make(
    shape: tuple[int, Hashable, int, int, float], principal: str, priority: Priority, timeout_s: float
) -> Item:
    return Item(
        (),
        (),
        shape,
        deadline=Deadline.after(timeout_s),
        future=asyncio.Future(loop=_LOOP),
        queued_ns=time.monotonic_ns(),
        principal=principal,
        priority=priority,
    )


# Futures belong to a loop; this one never runs.
_LOOP = asyncio.new_event_loop()
