"""What batching is compared with: batches by count, filled up to their longest item, as other servers form them.

It never waits while the session is idle, takes the oldest first and runs off the event loop, as the batcher does; only what
makes a batch differs: whoever waits, up to so many.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

import numpy as np

from shared.inference.datatypes import Array
from shared.inference.manifest import Pad
from shared.inference.session.session import Session


class CountBatcher:
    """Batches of up to `max_rows` items of one row each. Used on one event loop."""

    def __init__(self, session: Session, pad: Pad, output: str, max_rows: int) -> None:
        self._session = session
        self._pad = pad
        self._output = output
        self._max_rows = max_rows
        self._waiting: deque[tuple[Mapping[str, Array], asyncio.Future[Array]]] = deque()
        self._running: asyncio.Task[None] | None = None
        self.elements = self.padded_elements = 0

    @property
    def waste(self) -> float:
        """Share of all that was run that was filling."""
        return 1 - self.elements / self.padded_elements

    async def submit(self, inputs: Mapping[str, Array]) -> Array:
        """Run one item with whoever waits; its row of the output."""
        future: asyncio.Future[Array] = asyncio.get_running_loop().create_future()
        self._waiting.append((inputs, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            count = min(self._max_rows, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(count)]
            rows = await asyncio.to_thread(self._compute, [inputs for inputs, _ in batch])
            for row, (_, future) in zip(rows, batch, strict=True):
                future.set_result(row)
        self._running = None

    def _compute(self, items: list[Mapping[str, Array]]) -> Array:
        axis, feed = self._pad.axis, {}
        for name, filling in self._pad.inputs.items():
            arrays = [item[name] for item in items]
            longest = max(array.shape[axis] for array in arrays)
            whole = np.full((len(arrays), longest), filling, arrays[0].dtype)
            for row, array in enumerate(arrays):
                whole[row, : array.shape[axis]] = array[0]
            feed[name] = whole
        self.elements += sum(next(iter(item.values())).size for item in items)
        self.padded_elements += next(iter(feed.values())).size
        return self._session.run(feed, [self._output])[0]
