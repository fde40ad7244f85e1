"""Deadlines pass on time, and only for those that are still there."""

from __future__ import annotations

import asyncio
import math
import time

from shared.inference.batching.expiry import Expiry
from shared.inference.batching.waiting import Item
from tests.shared.inference.batching.items import make_item


async def test_each_is_told_at_its_deadline_and_never_before() -> None:
    told: dict[int, float] = {}
    done = asyncio.Event()

    def expire(item: Item) -> None:
        told[id(item)] = time.monotonic() - item.deadline_s
        if len(told) == len(items):
            done.set()

    expiry = Expiry(asyncio.get_running_loop(), expire)
    items = [make_item(timeout_s=number / 1000) for number in range(1, 40, 3)]
    for item in items:
        expiry.add(item)
    async with asyncio.timeout(10):
        await done.wait()
    assert all(late_s >= 0 for late_s in told.values())


async def test_who_was_answered_is_not_told() -> None:
    told: list[Item] = []
    done = asyncio.Event()

    def expire(item: Item) -> None:
        told.append(item)
        done.set()

    expiry = Expiry(asyncio.get_running_loop(), expire)
    answered, left = make_item(timeout_s=0.001), make_item(timeout_s=0.02)
    expiry.add(answered)
    expiry.add(left)
    expiry.remove(answered)
    expiry.remove(answered)
    async with asyncio.timeout(10):
        await done.wait()
    assert told == [left]


async def test_no_deadline_is_never_told() -> None:
    told: list[Item] = []
    expiry = Expiry(asyncio.get_running_loop(), told.append)
    item = make_item(timeout_s=math.inf)
    expiry.add(item)
    expiry.remove(item)
    assert not told
