"""When items' deadlines pass: one timer for all items of a few milliseconds, instead of one for each.

Nearly every item is answered before its deadline, so that letting it in and out is what must cost little: 0.4 µs, where a
timer of its own takes 1.4. Not here: what becomes of an item whose deadline has passed (`batcher.py`).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from shared.inference.batching.waiting import Item

__all__ = ["Expiry"]

# Width of a slot (seconds): an item is told so much too late at most, and at full load so many timers a second are set.
_SLOT_S = 0.004


class Expiry:
    """Calls `expire` with an item at its deadline, unless it is taken out before. Used on its event loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, expire: Callable[[Item], None]) -> None:
        self._loop = loop
        self._expire = expire
        self._slots: dict[int, set[Item]] = {}
        # The loop's clock need not be the deadlines'.
        self._ahead_s = loop.time() - time.monotonic()

    def add(self, item: Item) -> None:
        """Watch an item; one without a deadline (`NEVER`) needs none."""
        if item.deadline_s == math.inf:
            return
        slot = int(item.deadline_s / _SLOT_S) + 1
        items = self._slots.get(slot)
        if items is None:
            items = self._slots[slot] = set()
            self._loop.call_at(slot * _SLOT_S + self._ahead_s, self._end, slot)
        items.add(item)

    def remove(self, item: Item) -> None:
        """Watch an item no more."""
        if item.deadline_s == math.inf:
            return
        items = self._slots.get(int(item.deadline_s / _SLOT_S) + 1)
        if items is not None:
            items.discard(item)

    def _end(self, slot: int) -> None:
        for item in self._slots.pop(slot):
            self._expire(item)
