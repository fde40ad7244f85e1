"""Deadlines of many calls on one timer: nearly all of them are taken back long before they are due.

A timer of asyncio for each would cost 2 µs to set and take back, and stay in the loop's heap until half of it is stale.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import Protocol

# Deadlines within this time ring together, up to so much late.
_TICK_S = 0.005


class Sleeper(Protocol):
    """What waits for an alarm; told apart by identity."""

    def ring(self) -> None:
        """Its time has come. Must not raise."""


class Alarms:
    """The alarms of one event loop, on `time.monotonic`'s clock, which is asyncio's. Used on that loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # By the tick at whose end they ring. Ticks without a sleeper are left out.
        self._ticks: dict[int, set[Sleeper]] = {}
        self._armed: asyncio.TimerHandle | None = None
        self._armed_tick = 0

    def set(self, at_s: float, sleeper: Sleeper) -> int:
        """Has `sleeper` rung at `at_s` or up to 5 ms later; gives what `clear` takes."""
        tick = int(at_s / _TICK_S) + 1
        sleepers = self._ticks.get(tick)
        if sleepers is None:
            self._ticks[tick] = {sleeper}
            # Mostly the next deadline lies behind those that are set, and the timer stays.
            if self._armed is None or tick < self._armed_tick:
                self._arm(tick)
        else:
            sleepers.add(sleeper)
        return tick

    def clear(self, tick: int, sleeper: Sleeper) -> None:
        """Takes an alarm back, whether it has rung or not."""
        sleepers = self._ticks.get(tick)
        if sleepers is not None:
            sleepers.discard(sleeper)
            if not sleepers:
                del self._ticks[tick]

    def _arm(self, tick: int) -> None:
        if self._armed is not None:
            self._armed.cancel()
        self._armed_tick = tick
        self._armed = self._loop.call_at(tick * _TICK_S, self._ring)

    def _ring(self) -> None:
        self._armed = None
        # The loop's clock has a resolution: what is due may be due a moment from now.
        now = int(self._loop.time() / _TICK_S + 0.1)
        for tick in [tick for tick in self._ticks if tick <= now]:
            # One that rings may take the others of its tick back.
            while sleepers := self._ticks.get(tick):
                sleepers.pop().ring()
            self._ticks.pop(tick, None)
        if self._ticks and self._armed is None:
            self._arm(min(self._ticks))


_of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Alarms] = weakref.WeakKeyDictionary()


def alarms_of(loop: asyncio.AbstractEventLoop) -> Alarms:
    """The alarms of a loop, the same at every call."""
    alarms = _of_loops.get(loop)
    if alarms is None:
        alarms = _of_loops[loop] = Alarms(loop)
    return alarms
