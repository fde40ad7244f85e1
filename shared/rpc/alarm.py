"""Deadlines of many calls, or items of calls, on one timer: nearly all of them are taken back long before they are due.

A timer of asyncio for each would cost 2 µs to set and take back, stay in the loop's heap until half of it is stale, and hold
the context of the call that set it as long.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Alarms"]

# Deadlines within this time ring together, up to so much late.
_TICK_S = 0.005

T = TypeVar("T", bound=Hashable)


class Alarms(Generic[T]):
    """Calls `ring` with what was set, at the time that it was set for, unless it is cleared before. Used on one event loop
    only.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[T], None]) -> None:
        self._loop = loop
        self._ring = ring
        # The loop's clock need not be `time.monotonic`.
        self._ahead_s = loop.time() - time.monotonic()
        # By the tick at whose end they ring. Ticks that nothing is set for are left out.
        self._ticks: dict[int, set[T]] = {}
        self._armed: asyncio.TimerHandle | None = None
        self._armed_tick = 0
        # Not that of whoever happens to set the first.
        self._context = contextvars.Context()

    def set(self, at_s: float, sleeper: T) -> None:
        """Rings for `sleeper` at `at_s` on `time.monotonic`'s clock or up to 5 ms later; never at infinity."""
        if at_s == math.inf:
            return
        tick = int(at_s / _TICK_S) + 1
        sleepers = self._ticks.get(tick)
        if sleepers is None:
            self._ticks[tick] = {sleeper}
            # Mostly the next deadline lies behind those that are set, and the timer stays.
            if self._armed is None or tick < self._armed_tick:
                self._arm(tick)
        else:
            sleepers.add(sleeper)

    def clear(self, at_s: float, sleeper: T) -> None:
        """Takes back what was set for `at_s`, whether it has rung or not, or was never set."""
        if at_s == math.inf:
            return
        tick = int(at_s / _TICK_S) + 1
        sleepers = self._ticks.get(tick)
        if sleepers is not None:
            sleepers.discard(sleeper)
            if not sleepers:
                del self._ticks[tick]

    def _arm(self, tick: int) -> None:
        if self._armed is not None:
            self._armed.cancel()
        self._armed_tick = tick
        at_s = tick * _TICK_S + self._ahead_s
        self._armed = self._loop.call_at(at_s, self._ring_all, context=self._context)

    def _ring_all(self) -> None:
        self._armed = None
        # The loop's clock has a resolution: it rings what is due a moment from now.
        now = max(int(time.monotonic() / _TICK_S), self._armed_tick)
        for tick in sorted(tick for tick in self._ticks if tick <= now):
            # One that rings may take the others of its tick back.
            while sleepers := self._ticks.get(tick):
                self._ring(sleepers.pop())
            self._ticks.pop(tick, None)
        if self._ticks and self._armed is None:
            self._arm(min(self._ticks))
