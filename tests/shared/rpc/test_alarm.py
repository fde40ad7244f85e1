"""Many deadlines on one timer."""

from __future__ import annotations

import asyncio
import time

from shared.rpc.alarm import Alarms, alarms_of
from tests.support.waiting import within


class Sleeper:
    """Notes when it rang."""

    def __init__(self, rung: list[tuple[str, float]], name: str) -> None:
        self.rung, self.name = rung, name
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ring(self) -> None:
        self.rung.append((self.name, time.monotonic()))
        self.done.set_result(None)


async def test_they_ring_in_order_and_at_most_a_tick_late() -> None:
    alarms = Alarms(asyncio.get_running_loop())
    rung: list[tuple[str, float]] = []
    start_s = time.monotonic()
    late, early = Sleeper(rung, "late"), Sleeper(rung, "early")
    alarms.set(start_s + 0.06, late)
    alarms.set(start_s + 0.02, early)
    await within(early.done)
    await within(late.done)
    assert [name for name, _ in rung] == ["early", "late"]
    assert rung[0][1] - start_s >= 0.02
    assert rung[1][1] - start_s >= 0.06


async def test_what_is_taken_back_does_not_ring() -> None:
    alarms = Alarms(asyncio.get_running_loop())
    rung: list[tuple[str, float]] = []
    start_s = time.monotonic()
    kept, gone = Sleeper(rung, "kept"), Sleeper(rung, "gone")
    tick = alarms.set(start_s + 0.01, gone)
    alarms.set(start_s + 0.03, kept)
    alarms.clear(tick, gone)
    alarms.clear(tick, gone)
    await within(kept.done)
    assert [name for name, _ in rung] == ["kept"]


async def test_one_that_rings_may_take_back_those_of_its_tick() -> None:
    alarms = Alarms(asyncio.get_running_loop())
    at_s = time.monotonic() + 0.01
    rung: list[str] = []

    class Taker:
        def __init__(self) -> None:
            self.other: Taker | None = None
            self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def ring(self) -> None:
            rung.append("rang")
            assert self.other is not None
            alarms.clear(tick, self.other)
            self.other.done.cancel()
            self.done.set_result(None)

    one, two = Taker(), Taker()
    one.other, two.other = two, one
    tick = alarms.set(at_s, one)
    assert alarms.set(at_s, two) == tick
    await within(asyncio.wait([one.done, two.done]))
    assert len(rung) == 1


async def test_a_loop_has_one() -> None:
    loop = asyncio.get_running_loop()
    assert alarms_of(loop) is alarms_of(loop)
