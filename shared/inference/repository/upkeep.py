"""Makes of each model's shelf what is wanted: loads, swaps, retires. One turn at a time per model; who asks meanwhile
shares the next one.

A swap is one step on the event loop: a call that asked before it holds the old version and ends on it, one that asks
after it gets the new one. Not here: what is wanted (`shelf.py`), how a version is loaded (`loader.py`) and ends
(`retirement.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from typing import Any

from shared.inference.model import Model
from shared.inference.repository.loader import GoldenInputs, Loader, RefusedError
from shared.inference.repository.retirement import Retirement
from shared.inference.repository.shelf import Shelf
from shared.inference.repository.versions import READY, UNAVAILABLE, Version


class Upkeep:
    """The work on all shelves of a repository. Made and used on one event loop."""

    def __init__(self, loader: Loader, *, on_change: Callable[[], None], retire_timeout_s: float) -> None:
        """`on_change` is called after every change of a state, in the same step."""
        self._loader = loader
        self._tell = on_change
        self._retire_timeout_s = retire_timeout_s
        self._turns: dict[Shelf, asyncio.Lock] = {}
        self._queued: dict[Shelf, asyncio.Task[None]] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._ending: dict[asyncio.Task[None], Retirement] = {}
        # Versions that answer and are still to be measured, with their golden inputs; at first all together.
        self._unmeasured: dict[Version, GoldenInputs] = {}
        self._measures = False
        self._closed = False

    def settle(self, shelf: Shelf) -> asyncio.Task[None]:
        """Have a turn for a shelf: the one that is to come next, if there is one, sees all that was asked until then."""
        task = self._queued.get(shelf)
        if task is None:
            task = self._queued[shelf] = _start(self._take_turn(shelf), self._working.discard)
            self._working.add(task)
        return task

    async def measure(self) -> None:
        """Measure the batches of all models that were made ready without; from now on each when it is ready."""
        self._measures = True
        while self._unmeasured:
            await self._measure(next(iter(self._unmeasured)))

    async def wait_settled(self) -> None:
        """Wait until there is nothing left to do, and all that ends has ended."""
        while tasks := [*self._working, *self._ending]:
            await asyncio.wait(tasks)

    def take_out(self, shelf: Shelf, version: Version, reason: str) -> None:
        """End a version now; who waits for it is answered UNAVAILABLE. The next best is loaded in its place."""
        shelf.put_away(version.version, reason)
        self._retire(shelf, version).cut()
        self._tell()
        if not self._closed:
            self.settle(shelf)

    async def close(self, shelves: Sequence[Shelf]) -> None:
        """Stop loading and end every version at once."""
        self._closed = True
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        for shelf in shelves:
            for version in shelf.ready:
                self._retire(shelf, version)
            shelf.tidy()
        self._tell()
        for retirement in self._ending.values():
            retirement.cut()
        await asyncio.gather(*self._ending)

    async def _take_turn(self, shelf: Shelf) -> None:
        async with self._turns.setdefault(shelf, asyncio.Lock()):
            # What is asked from now on may come too late for this turn.
            del self._queued[shelf]
            await self._make_so(shelf)
            if self._measures:
                for version in shelf.ready:
                    await self._measure(version)

    async def _make_so(self, shelf: Shelf) -> None:
        numbers, enough, besides = shelf.wanted()
        kept: list[Version] = []
        for number in numbers:
            if len(kept) == enough:
                break
            if (version := await self._bring(shelf, number)) is not None:
                kept.append(version)
        if not kept:
            # No new one could be loaded: those that serve serve on.
            kept = [version for version in shelf.ready if shelf.serves_on(version)]
        for number in besides:
            if (version := await self._bring(shelf, number)) is not None:
                kept.append(version)
        gone = [version for version in shelf.ready if version not in kept]
        for version in gone:
            self._retire(shelf, version)
        if shelf.tidy() or gone:
            self._tell()

    async def _bring(self, shelf: Shelf, number: str) -> Version | None:
        """Have a version ready, as it lies on disk now; what is ready of it at the end, None if nothing is."""
        ready, refused = shelf.get(number, READY), shelf.get(number, UNAVAILABLE)
        folder = shelf.folders.get(number)
        if folder is None or folder in [one.folder for one in (ready, refused) if one is not None]:
            return ready
        version, news = shelf.begin(number)
        if news:
            self._tell()
        # Where nothing serves, an answer now is worth more than a quick one later.
        warm = shelf.default is not None
        try:
            model, inputs = await self._loader.load(shelf.name, number, folder, warm=warm)
        except RefusedError as error:
            version.state, version.reason = UNAVAILABLE, str(error)
            self._tell()
            return ready
        same = (
            ready is not None
            and ready.model is not None
            and ready.model.artifact.digest == model.artifact.digest
        )
        if same or not shelf.allows(number):
            # Only its files' times changed, or somebody has thought better of it.
            if ready is not None:
                ready.folder = folder
            shelf.versions.remove(version)
            self._end(model)
            return ready
        version.model, version.state = model, READY
        if ready is not None:
            self._retire(shelf, ready)
        if not warm:
            self._unmeasured[version] = inputs
        self._tell()
        return version

    async def _measure(self, version: Version) -> None:
        inputs = self._unmeasured.pop(version, None)
        if inputs is not None and version.model is not None:
            await self._loader.measure(version.model, inputs)

    def _retire(self, shelf: Shelf, version: Version) -> Retirement:
        model = version.model
        assert model is not None, "only what is ready retires"
        shelf.drop(version)
        return self._end(model)

    def _end(self, model: Model) -> Retirement:
        retirement = Retirement(model)
        task = _start(retirement.end(self._retire_timeout_s), lambda task: self._ending.pop(task, None))
        self._ending[task] = retirement
        return retirement


def _start(
    work: Coroutine[Any, Any, None], on_end: Callable[[asyncio.Task[None]], object]
) -> asyncio.Task[None]:
    # Without the context of the call that asked for it: its deadline is not the work's, which goes on for all others.
    task = asyncio.get_running_loop().create_task(work, context=Context())
    task.add_done_callback(on_end)
    return task
