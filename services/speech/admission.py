"""How many clips are decoded at a time: each takes memory until its call ends, whatever else the replica does.

Beside the admission of every call (`shared/rpc/admission`), which counts the bytes of a message as it came: what a clip
takes once it is decoded, up to thirty times as much, is known here only. Who finds no place waits for one, until its
deadline; the wait counts as queue in the call's report, so that a queue that is too long is refused at the door like any
other.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.rpc.report import current_report


class ClipAdmission:
    """Places for clips in work, given to those who wait in the order in which they came; belongs to one event loop."""

    def __init__(self, max_clips: int) -> None:
        self._places = asyncio.Semaphore(max_clips)

    @asynccontextmanager
    async def admit(self) -> AsyncIterator[None]:
        """Hold a place while the block runs; the call's own deadline ends the wait for it."""
        came_s = time.monotonic()
        async with self._places:
            if (report := current_report()) is not None:
                report.add_wait(time.monotonic() - came_s, 0.0)
            yield
