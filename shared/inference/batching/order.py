"""In which turn items go: by start-time fair queueing between principals, oldest first within each.

Every item has a start tag: where its principal's items before it end, in cost, but not before what is being served
now. The lowest tag goes first. So a principal that comes with one item goes before the rest of another's five hundred,
and over time each gets the same cost served while it wants more (Goyal, Vin and Cheng, "Start-time fair queueing",
SIGCOMM 1996). Here: the tags, and lanes of items that may run together. Not here: which of them do (`queue.py`).
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import TypeAlias

from shared.inference.batching.waiting import Item

__all__ = ["FairOrder", "Lane"]

# Tag, number of arrival (so that equal tags go by age and items are never compared), item.
Entry: TypeAlias = tuple[float, int, Item]
# Kind and bucket.
Key: TypeAlias = tuple[Hashable, int]
# Items that have left stay in their lane until their turn, but no more of them than that beside those that wait.
_MOST_GONE = 64
# Principals are forgotten as soon as nobody waits; under unbroken load, once there are so many.
_MOST_FLOWS = 1024


class Lane:
    """Items of one kind and bucket, by turn. `entries` is a heap; its first entry waits, or it is empty."""

    __slots__ = ("entries", "key", "rows")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.entries: list[Entry] = []
        self.rows = 0  # of those that wait

    def __lt__(self, other: Lane) -> bool:
        # Asked where one first item was noted twice: which note is read first is all the same.
        return False

    def clean(self) -> None:
        """Drop those in front that have left."""
        entries = self.entries
        while entries and not entries[0][2].waiting:
            heappop(entries)


class _Flow:
    """One principal: where its next item's turn is, and what it has waiting."""

    __slots__ = ("backlog", "finish", "last")

    def __init__(self) -> None:
        self.finish = 0.0
        self.last = 0.0  # tag of the item that came last
        self.backlog = 0.0


class FairOrder:
    """The items of one priority. Not thread-safe: the owner holds a lock. Adding and taking cost O(log n)."""

    def __init__(self) -> None:
        self.count = 0
        self.cost = 0.0
        self.rows = 0
        self._now = 0.0  # tag of the last batch's first item
        self._arrivals = 0
        self._gone = 0
        self._flows: dict[str, _Flow] = {}
        self._most_flows = _MOST_FLOWS
        self._lanes: dict[Key, Lane] = {}
        # The lanes by their first items. An entry is out of date where its lane's first item is another by now.
        self._tops: list[tuple[float, int, Lane]] = []

    @property
    def lanes(self) -> int:
        """Groups of items that may run together; at least so many batches wait."""
        return len(self._lanes)

    @property
    def held(self) -> int:
        """Items that are kept, those included that have left and whose turn has not come."""
        return sum(len(lane.entries) for lane in self._lanes.values())

    def add(self, item: Item) -> None:
        """Let an item wait for its turn."""
        flow = self._flows.get(item.principal)
        if flow is None:
            flow = self._add_flow(item.principal)
        start = flow.finish if flow.finish > self._now else self._now
        if start < flow.last and flow.backlog > 0:
            # One before has left and given its cost back; nobody overtakes those who came between.
            start = flow.last
        item.start = flow.last = start
        cost = item.cost
        flow.finish = start + cost
        flow.backlog += cost
        item.waiting = True
        self.count += 1
        self.cost += cost
        self.rows += item.rows
        self._arrivals += 1
        key = (item.kind, item.bucket)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key)
        entry = (start, self._arrivals, item)
        heappush(lane.entries, entry)
        lane.rows += item.rows
        if lane.entries[0] is entry:
            heappush(self._tops, (start, self._arrivals, lane))

    def first(self) -> Lane | None:
        """The lane whose first item's turn it is; None if nobody waits."""
        tops = self._tops
        while tops:
            _, number, lane = tops[0]
            entries = lane.entries
            if entries and entries[0][1] == number and entries[0][2].waiting:
                return lane
            heappop(tops)
            if entries and entries[0][1] == number:
                # It has left: the next one of the lane is its first now.
                lane.clean()
                self.settle(lane)
        return None

    def lane(self, kind: Hashable, bucket: int) -> Lane | None:
        """The lane of a kind and bucket, those in front that have left dropped; None if nobody waits there."""
        lane = self._lanes.get((kind, bucket))
        if lane is not None and not lane.entries[0][2].waiting:
            lane.clean()
            self.settle(lane)
        return lane if lane is not None and lane.entries else None

    def take(self, lane: Lane) -> None:
        """Take the first item of a lane out; call `settle` once the last is taken."""
        item = heappop(lane.entries)[2]
        self._forget(item)
        lane.rows -= item.rows
        lane.clean()

    def settle(self, lane: Lane) -> None:
        """Note a lane's new first item, or that it is empty."""
        if lane.entries:
            start, number, _ = lane.entries[0]
            heappush(self._tops, (start, number, lane))
        else:
            self._lanes.pop(lane.key, None)

    def serve(self, item: Item) -> None:
        """Note whose turn it was: who comes from now on goes behind him."""
        if item.start > self._now:
            self._now = item.start

    def remove(self, item: Item) -> None:
        """Take an item out wherever it stands; its principal's next one gets the turn that it did not use."""
        self._forget(item)
        flow = self._flows[item.principal]
        flow.finish = max(flow.finish - item.cost, self._now)
        self._lanes[item.kind, item.bucket].rows -= item.rows
        self._gone += 1
        if self._gone > self.count + _MOST_GONE:
            self._compact()

    def cost_before(self, principal: str) -> float:
        """What is served before an item that the principal would add now, as far as it waits."""
        flow = self._flows.get(principal)
        start = self._now if flow is None else max(flow.finish, self._now)
        # A principal's waiting items have tags from the end of his backlog back to its beginning.
        return sum(
            min(max(start - (other.finish - other.backlog), 0.0), other.backlog)
            for other in self._flows.values()
        )

    def clear(self) -> list[Item]:
        """Take all items out, oldest tags first."""
        entries = sorted(entry for lane in self._lanes.values() for entry in lane.entries)
        items = [item for _, _, item in entries if item.waiting]
        for item in items:
            item.waiting = False
        self.count, self.cost, self.rows = 0, 0.0, 0
        self.reset()
        return items

    def _forget(self, item: Item) -> None:
        item.waiting = False
        self.count -= 1
        self.rows -= item.rows
        # Sums of floats that come and go would drift.
        self.cost = self.cost - item.cost if self.count else 0.0
        self._flows[item.principal].backlog -= item.cost

    def reset(self) -> None:
        """Nobody waits, and nothing runs: a new busy time will begin, in which nobody has had anything yet.

        Not as long as something runs. Its principal would have had nothing yet, and his next item went before those of
        others who come a moment later: with a queue that is empty now and then, turns would go by age alone.
        """
        self._now = 0.0
        self._gone = 0
        self._flows.clear()
        self._lanes.clear()
        self._tops.clear()

    def _add_flow(self, principal: str) -> _Flow:
        if len(self._flows) >= self._most_flows:
            self._flows = {
                name: flow
                for name, flow in self._flows.items()
                if flow.backlog > 0 or flow.finish > self._now
            }
            self._most_flows = max(_MOST_FLOWS, 2 * len(self._flows))
        flow = self._flows[principal] = _Flow()
        return flow

    def _compact(self) -> None:
        """Drop all who have left."""
        self._gone = 0
        lanes, self._lanes, self._tops = self._lanes, {}, []
        for key, lane in lanes.items():
            lane.entries = [entry for entry in lane.entries if entry[2].waiting]
            if lane.entries:
                heapify(lane.entries)
                self._lanes[key] = lane
                self.settle(lane)
