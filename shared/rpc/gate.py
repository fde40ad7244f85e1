"""The way in: which calls are in flight, and whether new ones are taken. Watches and health checks do not
pass here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from contextvars import ContextVar
from enum import Enum
from typing import Protocol

from shared.errors import Unavailable
from shared.rpc.alarm import Alarms

# When a caller that met a draining replica should come back: by then the gateway has left it out.
RETRY_AFTER_S = 1.0


class Ending(Enum):
    """Why a call's task was cancelled by us; a call the client or its front ended has none."""

    DEADLINE = "deadline"
    DRAIN = "drain"


class Ended(Hashable, Protocol):
    """A call, as the gate knows it; told apart by identity."""

    def end(self, ending: Ending) -> None:
        """Ends it before its time."""


class Gate:
    """Counts the calls in flight by holding them, and closes for the drain."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._closing = asyncio.Event()
        self._idle = asyncio.Event()
        self._alarms: Alarms[Ended] | None = None
        self.calls: set[Ended] = set()

    @property
    def closed(self) -> bool:
        """Whether new calls are refused."""
        return self._closing.is_set()

    async def wait_closed(self) -> None:
        """Waits until new calls are refused: a stream takes no more messages then, so that it ends before it is cut."""
        await self._closing.wait()

    def enter(self, call: Ended) -> None:
        """Takes a call in. Raises Unavailable once the gate is closed."""
        if self.closed:
            raise self.make_refusal()
        self.calls.add(call)

    def leave(self, call: Ended) -> None:
        """Lets a call go, whether it came in or not."""
        self.calls.discard(call)
        if self.closed and not self.calls:
            self._idle.set()

    def watch(self, call: Ended, at_s: float) -> None:
        """Ends a call at a deadline of ours, unless it is forgotten before."""
        if self._alarms is None:
            self._alarms = Alarms(asyncio.get_running_loop(), _end)
        self._alarms.set(at_s, call)

    def forget(self, call: Ended, at_s: float) -> None:
        """Takes `watch` back."""
        if self._alarms is not None:
            self._alarms.clear(at_s, call)

    def close(self) -> None:
        """Refuses new calls from now on."""
        self._closing.set()
        if not self.calls:
            self._idle.set()

    async def wait_idle(self, timeout_s: float) -> bool:
        """Waits until no call is in flight, after `close`; False if some still are when the time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def cut(self) -> int:
        """Ends the calls still in flight: each is answered UNAVAILABLE. Returns how many there were."""
        calls = list(self.calls)
        for call in calls:
            call.end(Ending.DRAIN)
        return len(calls)

    def make_refusal(self) -> Unavailable:
        """What a call gets that comes too late or takes too long."""
        return Unavailable(self._service, reason="it is draining", retry_after_s=RETRY_AFTER_S)


_current: ContextVar[Gate | None] = ContextVar("sensorium_gate", default=None)


def set_gate(gate: Gate) -> None:
    """Binds the current task, and those it starts, to the gate that its call came through."""
    _current.set(gate)


def current_gate() -> Gate | None:
    """The gate that the call this task works for came through; None outside of a call whose requests are a stream."""
    return _current.get()


def _end(call: Ended) -> None:
    call.end(Ending.DEADLINE)
