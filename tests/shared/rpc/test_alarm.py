"""Many deadlines on one timer."""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
import weakref

from shared.rpc.alarm import Alarms
from tests.support.waiting import within


class Bell:
    """Rings for names, and waits until all have rung that are awaited."""

    def __init__(self, *awaited: str) -> None:
        self.rung: dict[str, float] = {}
        self._awaited = set(awaited)
        self._done = asyncio.Event()
        self.alarms: Alarms[str] = Alarms(asyncio.get_running_loop(), self._ring)

    def _ring(self, name: str) -> None:
        self.rung[name] = time.monotonic()
        if self._awaited <= self.rung.keys():
            self._done.set()

    async def wait(self) -> None:
        await within(self._done.wait())


async def test_they_ring_in_order_and_never_early() -> None:
    names = [str(number) for number in range(1, 40, 3)]
    bell = Bell(*names)
    start_s = time.monotonic()
    # The last first: each of the others is due before what is set already.
    for name in reversed(names):
        bell.alarms.set(start_s + int(name) / 100, name)
    await bell.wait()
    assert list(bell.rung) == names
    assert all(rung_s >= start_s + int(name) / 100 for name, rung_s in bell.rung.items())


async def test_what_is_taken_back_does_not_ring() -> None:
    bell = Bell("kept")
    start_s = time.monotonic()
    bell.alarms.set(start_s + 0.01, "gone")
    bell.alarms.set(start_s + 0.03, "kept")
    bell.alarms.clear(start_s + 0.01, "gone")
    bell.alarms.clear(start_s + 0.01, "gone")
    bell.alarms.clear(start_s + 0.02, "never set")
    await bell.wait()
    assert list(bell.rung) == ["kept"]


async def test_one_that_rings_may_take_back_those_of_its_tick() -> None:
    rung: list[str] = []
    done = asyncio.Event()

    def ring(name: str) -> None:
        rung.append(name)
        alarms.clear(at_s, "two" if name == "one" else "one")
        done.set()

    alarms: Alarms[str] = Alarms(asyncio.get_running_loop(), ring)
    at_s = time.monotonic() + 0.01
    alarms.set(at_s, "one")
    alarms.set(at_s, "two")
    await within(done.wait())
    assert len(rung) == 1


async def test_what_is_set_when_it_rings_rings_too() -> None:
    bell = Bell("first", "second")
    bell.alarms.set(time.monotonic() - 1, "first")
    await asyncio.sleep(0)
    bell.alarms.set(time.monotonic() + 0.01, "second")
    await bell.wait()


async def test_never_is_never() -> None:
    bell = Bell("soon")
    bell.alarms.set(math.inf, "never")
    bell.alarms.set(time.monotonic() + 0.01, "soon")
    await bell.wait()
    bell.alarms.clear(math.inf, "never")
    assert list(bell.rung) == ["soon"]


async def test_nothing_of_the_call_is_held() -> None:
    class Value:
        pass

    bell = Bell()
    variable: contextvars.ContextVar[Value] = contextvars.ContextVar("variable")

    def set_one() -> weakref.ref[Value]:
        value = Value()
        variable.set(value)
        bell.alarms.set(time.monotonic() + 3600, "late")
        bell.alarms.clear(time.monotonic() + 3600, "late")
        return weakref.ref(value)

    held = contextvars.copy_context().run(set_one)
    assert held() is None
