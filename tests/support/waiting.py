"""Limits on awaits: nothing in a test waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

# Longest that one step of a test may take, in seconds: far above what it takes, below the patience of who runs it.
LIMIT_S = 10.0

T = TypeVar("T")


async def within(awaitable: Awaitable[T], limit_s: float = LIMIT_S) -> T:
    """The awaitable's result, or TimeoutError after `limit_s`."""
    async with asyncio.timeout(limit_s):
        return await awaitable


async def take(stream: AsyncIterator[T], limit_s: float = LIMIT_S) -> T:
    """The next message of a stream, or TimeoutError after `limit_s`."""
    return await within(anext(stream), limit_s)
