"""Which of the items that wait before one graph run next, and together.

Here: batches by cost, priority and deadline. Not here: turns between principals (`order.py`), threads and locks
(`batcher.py` and `instance.py` hold the lock).

The item whose turn it is is in the next batch whatever its size, so that nobody starves. Others join it in their own
turn: first those of its kind and length, then, while the batch is too small to be worth its fixed part, those of its
kind that are somewhat shorter or longer. At most a quarter of a batch is filling.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from shared.inference.batching.order import FairOrder, Lane
from shared.inference.batching.pace import Pace
from shared.inference.batching.shape import MAX_WASTE
from shared.inference.batching.waiting import Item
from shared.rpc.caller import Priority

__all__ = ["BATCH_SHARE", "Batch", "Limits", "Queue"]

# Work of priority BATCH goes behind all INTERACTIVE work, but for this share of the cost, so that it does not starve.
BATCH_SHARE = 0.1
# What BATCH work is owed for a unit of INTERACTIVE cost that goes before it.
_OWED = BATCH_SHARE / (1 - BATCH_SHARE)
# Buckets that a batch draws on, from its first item's: nearest first; further off, filling takes over.
_NEIGHBOURS = (0, -1, 1, -2, 2)


@dataclass(slots=True)
class Limits:
    """What bounds a batch; see `Batcher`."""

    max_rows: int
    max_cost: float  # filling included
    worthwhile_cost: float
    target_s: float
    max_delay_s: float


class Batch:
    """Items that run together."""

    __slots__ = ("cost", "density", "items", "length", "rows")

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self.items: list[Item] = []
        self.rows = 0
        self.length = 0  # of the longest, to which all are filled up
        self.density = 0.0  # cost per unit of length, of all rows
        self.cost = 0.0  # as the items bring it
        for item in items:
            self.add(item)

    @property
    def padded_cost(self) -> float:
        """What it costs to run, filling included."""
        return self.density * self.length

    def add(self, item: Item) -> None:
        """Let an item join."""
        self.items.append(item)
        self.rows += item.rows
        if item.length > self.length:
            self.length = item.length
        self.density += item.density
        self.cost += item.cost


class Queue:
    """Items that wait, at most `max_size` of them. Not thread-safe: the owner holds a lock."""

    def __init__(self, max_size: int, limits: Limits, pace: Pace) -> None:
        self.max_size = max_size
        self.limits = limits
        self._pace = pace
        self._orders = (FairOrder(), FairOrder())  # by priority
        self._owed = 0.0  # cost that BATCH items may go before INTERACTIVE ones

    def __len__(self) -> int:
        first, second = self._orders
        return first.count + second.count

    @property
    def cost(self) -> float:
        """Cost of all that waits."""
        first, second = self._orders
        return first.cost + second.cost

    def add(self, item: Item) -> None:
        """Let an item wait for its turn."""
        self._orders[item.priority].add(item)

    def remove(self, item: Item) -> bool:
        """Take an item out wherever it stands; False if it does not wait here."""
        if not item.waiting:
            return False
        self._orders[item.priority].remove(item)
        # Its entry may stay until its turn, its tensors do not.
        item.inputs = ()
        return True

    def rest(self) -> None:
        """Nobody waits, and nothing runs: who has had how much is forgotten."""
        for order in self._orders:
            order.reset()

    def clear(self) -> list[Item]:
        """Take all items out."""
        return [item for order in self._orders for item in order.clear()]

    def expected_s(self, cost: float | None = None) -> float:
        """Seconds that what waits is expected to run, or so much of its cost; 0 as long as nothing is known."""
        first, second = self._orders
        total = first.cost + second.cost
        if not total:
            return 0.0
        limits = self.limits
        batches = max(
            total / self.cost_limit(),
            (first.rows + second.rows) / limits.max_rows,
            first.lanes + second.lanes,
        )
        share = 1.0 if cost is None else min(cost / total, 1.0)
        return share * (self._pace.s_per_cost * total + self._pace.fixed_s * math.ceil(batches))

    def expected_before_s(self, principal: str, priority: Priority) -> float:
        """Seconds that the items expected to run before one that is added now are expected to take."""
        cost = self._orders[priority].cost_before(principal)
        if priority is Priority.BATCH:
            cost += self._orders[Priority.INTERACTIVE].cost
        else:
            cost += min(cost * _OWED, self._orders[Priority.BATCH].cost)
        return self.expected_s(cost)

    def cost_limit(self) -> float:
        """Cost up to which a batch grows: what the target takes, but so much that it is worth its while."""
        limits, pace = self.limits, self._pace
        if pace.s_per_cost > 0:
            target = (limits.target_s - pace.fixed_s) / pace.s_per_cost
            return min(max(target, limits.worthwhile_cost), limits.max_cost)
        return limits.max_cost

    def delay_s(self, now_s: float) -> float:
        """Seconds that an idle session had better wait for the next batch to fill; 0 if it is to run now.

        Never longer than the run takes, once that is known: waiting for company then costs at most as much as it saves.
        """
        limits = self.limits
        _, lane = self._first()
        if lane is None or limits.max_delay_s <= 0:
            return 0.0
        head = lane.entries[0][2]
        if lane.rows >= limits.max_rows or lane.rows * head.cost >= head.rows * self.cost_limit():
            return 0.0
        delay_s = limits.max_delay_s
        if self._pace.known:
            delay_s = min(delay_s, self._pace.run_s(head.cost))
        return min(head.queued_ns / 1e9 + delay_s, head.deadline_s) - now_s

    def pick(self, now_s: float) -> tuple[Batch, list[Item]]:
        """Take out what runs next, nothing if nobody waits; and those who are too late to be run, see `_is_late`."""
        late: list[Item] = []
        batch = Batch()
        while True:
            order, lane = self._first()
            if lane is None:
                return batch, late
            head = lane.entries[0][2]
            if not self._is_late(head, now_s):
                break
            order.take(lane)
            order.settle(lane)
            late.append(head)
        self._fill(batch, order, lane, now_s, late)
        order.serve(head)
        self._settle_debt(head, batch.items)
        return batch, late

    def _first(self) -> tuple[FairOrder, Lane | None]:
        """The order and lane of the item whose turn it is."""
        interactive, batch = self._orders
        if not batch.count:
            return interactive, interactive.first()
        if not interactive.count:
            return batch, batch.first()
        lane = batch.first()
        if lane is not None and self._owed >= lane.entries[0][2].cost:
            return batch, lane
        return interactive, interactive.first()

    def _settle_debt(self, head: Item, items: list[Item]) -> None:
        """Count who went before whom, as long as both priorities wait.

        BATCH items that ride along with an INTERACTIVE one are no part of it: those of the right length would use up
        what is owed to one of another length that waits before them.
        """
        interactive, batch = self._orders
        if not batch.count or (head.priority is Priority.BATCH and not interactive.count):
            # Nobody was kept waiting, or work that kept nobody waiting.
            self._owed = max(self._owed, 0.0) if batch.count else 0.0
            return
        paid = [item.cost for item in items if item.priority is head.priority]
        self._owed += sum(paid) * _OWED if head.priority is Priority.INTERACTIVE else -sum(paid)

    def _is_late(self, item: Item, now_s: float) -> bool:
        """Whether an item is not worth starting: past its deadline, or sure to be by the pace, while others wait.

        An item alone is tried anyhow, so that a wrong pace mends itself.
        """
        left_s = item.deadline_s - now_s
        return left_s <= 0 or (left_s < self._pace.run_s(item.cost) and len(self) > 1)

    def _fill(self, batch: Batch, order: FairOrder, lane: Lane, now_s: float, late: list[Item]) -> None:
        """Put a lane's first item into a batch, and those that go with it."""
        limits = self.limits
        limit = self._draw(batch, order, lane, self.cost_limit(), now_s, late)
        other = self._orders[1] if order is self._orders[0] else self._orders[0]
        kind, bucket = lane.key
        for away in _NEIGHBOURS:
            # Lanes of other lengths are for a batch that is too small yet; bucket 0 is for what is not filled up.
            if away and (bucket <= 0 or batch.padded_cost >= limits.worthwhile_cost):
                return
            for one in (order, other):
                if batch.rows >= limits.max_rows:
                    return
                if one.count and (away or one is other) and bucket + away >= 0:
                    found = one.lane(kind, bucket + away)
                    if found is not None:
                        limit = self._draw(batch, one, found, limit, now_s, late)

    def _draw(
        self,
        batch: Batch,
        order: FairOrder,
        lane: Lane,
        limit: float,
        now_s: float,
        late: list[Item],
    ) -> float:
        """Let items of a lane join in their turn, until the next one does not fit; gives the limit of cost that is left."""
        limits, pace = self.limits, self._pace
        entries, items = lane.entries, batch.items
        s_per_cost, fixed_s = pace.s_per_cost, pace.fixed_s
        # Filling that costs more than a run of its own would is not worth it.
        most_filling = fixed_s / s_per_cost if s_per_cost > 0 else math.inf
        full_s = fixed_s + s_per_cost * limit if s_per_cost > 0 else 0.0
        begun = len(items) + len(late)
        while entries:
            item = entries[0][2]
            cost = item.cost
            left_s = item.deadline_s - now_s
            if items:
                length = item.length if item.length > batch.length else batch.length
                whole = length * (batch.density + item.density)
                if batch.rows + item.rows > limits.max_rows or whole > limit:
                    break
                filling = whole - batch.cost - cost
                if filling > 0 and (
                    filling > MAX_WASTE * whole or whole - batch.padded_cost - cost > most_filling
                ):
                    break
                if left_s <= 0 or left_s < fixed_s + s_per_cost * cost:
                    order.take(lane)
                    late.append(item)
                    continue
            order.take(lane)
            batch.add(item)
            if left_s < full_s:
                # The batch is to end by this item's deadline, as long as it is worth its while even so.
                limit = min(limit, max((left_s - fixed_s) / s_per_cost, limits.worthwhile_cost))
                full_s = fixed_s + s_per_cost * limit
            if batch.rows >= limits.max_rows:
                break
        if begun != len(items) + len(late):
            order.settle(lane)
        return limit
