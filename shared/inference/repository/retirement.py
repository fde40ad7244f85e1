"""The end of a version that answers no new calls: those that hold it finish on it, then its memory goes back.

Who holds a model, or one of its graphs, is known by the objects themselves: a call that began on one names it as long
as it needs it, over as many steps as it has, and the hot path counts nothing. Not here: which version ends (`upkeep.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref

from shared.inference.model import Model
from shared.inference.session.session import Session
from shared.rpc.allocator import give_back_free_memory
from shared.telemetry.logging import get_logger

_log = get_logger("inference")

# From when on the holder may be a circle of objects that only the garbage collector ends, which stops the event loop for
# some 50 ms. Most calls are over by then.
_CIRCLES_S = 5.0
# How long the threads of sessions get to end: a run is asked to stop, one that hangs does not.
_THREADS_S = 10.0


class Retirement:
    """Ends one model. Made on the event loop; it holds neither the model nor its graphs, and its maker forgets them, too."""

    def __init__(self, model: Model) -> None:
        self._loop = asyncio.get_running_loop()
        self._log = _log.bind(model=model.name, version=model.artifact.version)
        graphs = list(model.graphs.values())
        self._batchers = [graph.batcher for graph in graphs]
        self._sessions = [graph.loaded.session for graph in graphs]
        self._unheld = asyncio.Event()
        held = [model, *graphs]
        self._held = len(held)
        # Their callbacks come on whichever thread lets go last.
        self._refs = [weakref.ref(one, self._on_end) for one in held]

    def cut(self) -> None:
        """Wait for nobody any more."""
        self._unheld.set()

    async def end(self, limit_s: float) -> None:
        """Wait until no call holds the model, end its threads, free its sessions.

        Who still holds it after `limit_s`, or after `cut`, is answered UNAVAILABLE.
        """
        if not await self._wait(min(_CIRCLES_S, limit_s)):
            gc.collect()
            if not await self._wait(max(limit_s - _CIRCLES_S, 0.0)):
                self._log.warning("version ends while something still holds it", after_s=limit_s)
        try:
            async with asyncio.timeout(_THREADS_S):
                await asyncio.gather(*(batcher.close() for batcher in self._batchers))
        except TimeoutError:
            self._log.warning("a run of the version does not end, its memory stays taken")
            return
        await asyncio.to_thread(free, self._sessions)
        self._log.info("version unloaded")

    async def _wait(self, limit_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._unheld.wait()
        return self._unheld.is_set()

    def _on_end(self, _: weakref.ref[object]) -> None:
        # A loop that is closed waits for nobody.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._count)

    def _count(self) -> None:
        self._held -= 1
        if not self._held:
            self._unheld.set()


def free(sessions: list[Session]) -> None:
    """Close sessions and have the C library give back what they held. Blocks, some 10 ms."""
    while sessions:
        sessions.pop().close()
    give_back_free_memory()
