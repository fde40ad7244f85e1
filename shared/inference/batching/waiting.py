"""Who waits before one graph, and which of them may run together.

Here: bookkeeping over items, oldest first. Not here: threads, locks and time-outs (`batcher.py` holds the
lock).
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from shared.inference.datatypes import Array
from shared.rpc.deadline import Deadline


@dataclass(frozen=True, slots=True)
class Answer:
    """What a graph gave for one item, and its seconds: waiting, joining and splitting, in the run. Read-only arrays."""

    outputs: dict[str, Array]
    queue_s: float
    batch_s: float
    compute_s: float
    batch_size: int  # rows of the batch that it ran in; 1 for a graph without a batch axis


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a batcher is; costs are in the graph's own unit."""

    queued_items: int
    queued_cost: float
    running: int  # items that run now
    expected_wait_s: float  # until an item that comes now would begin to run; 0 as long as nothing is measured
    s_per_cost: float  # 0 as long as nothing is measured


@dataclass(slots=True, eq=False)
class Item:
    """One caller's tensors on their way through the queue. `inputs` are in the order of the graph's inputs."""

    inputs: tuple[Array, ...]
    outputs: tuple[str, ...]
    rows: int
    kind: Hashable  # items of one kind may share a batch: equal dtypes, outputs, and shapes but for the rows
    deadline: Deadline
    future: asyncio.Future[Answer]
    queued_ns: int
    n_bytes: int

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more; may be asked from any thread."""
        return self.future.done()


class Queue:
    """Items that wait, oldest first, at most `max_size` of them. Not thread-safe: the owner holds a lock."""

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        # A dict keeps the order of arrival and forgets a caller who left in constant time.
        self._items: dict[int, Item] = {}

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items.values())

    @property
    def is_full(self) -> bool:
        """Whether the next item must be refused."""
        return len(self._items) >= self.max_size

    def add(self, item: Item) -> None:
        """Let an item wait behind all others."""
        self._items[id(item)] = item

    def remove(self, item: Item) -> bool:
        """Take an item out wherever it stands; False if it does not wait here."""
        return self._items.pop(id(item), None) is not None

    def clear(self) -> list[Item]:
        """Take all items out."""
        items = list(self._items.values())
        self._items.clear()
        return items

    def pick(self, max_rows: int, worthwhile_rows: int, max_bytes: float) -> list[Item]:
        """The items that the next batch is made of, left in the queue: the oldest, and then those of its kind.

        It ends at `max_rows`, and from `worthwhile_rows` on at `max_bytes`. The oldest is in it whatever its
        size; the next one that is too large ends the batch, so that none is overtaken by a younger one of its
        kind.
        """
        picked: list[Item] = []
        rows, n_bytes = 0, 0
        for item in self._items.values():
            if picked:
                if item.kind != picked[0].kind:
                    continue
                wanted = rows + item.rows
                if wanted > max_rows or (wanted > worthwhile_rows and n_bytes + item.n_bytes > max_bytes):
                    break
            picked.append(item)
            rows += item.rows
            n_bytes += item.n_bytes
            if rows >= max_rows:
                break
        return picked
