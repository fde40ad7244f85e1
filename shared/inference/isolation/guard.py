"""What a thread says before and after each run of a session: that it is inside, and how long that should take.

Here: the few stores that every run pays for. Not here: who looks at them while the process lives (`watch.py`)
and after it has died (`marker.py`).
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable
from typing import TypeAlias

from shared.inference.session.session import RunOptions

# Options of a run, and how many seconds it is expected to take. A new tuple for each: so they are told apart.
Run: TypeAlias = tuple[RunOptions | None, float]


class Guard:
    """One thread's runs of one graph. Made by `Isolation.guard`, used by one thread, read by the watch from another.

    `begin` and `end` together cost about 0.15 µs: one tuple, and a byte that survives the process.
    """

    __slots__ = (
        "_close",
        "_flags",
        "_name_thread",
        "_slot",
        "digest",
        "graph",
        "hasty",
        "model",
        "run",
        "version",
    )

    def __init__(
        self,
        model: str,
        version: str,
        graph: str,
        digest: str,
        *,
        flags: mmap.mmap | bytearray,
        slot: int,
        name_thread: Callable[[int], None] | None,
        close: Callable[[Guard], None] | None,
    ) -> None:
        """`flags[slot]` is 1 while a run is going on; `name_thread` is told the thread's identity at its first run."""
        self.model, self.version, self.graph, self.digest = model, version, graph, digest
        # Whether its thread is the event loop's, which has no time for long runs.
        self.hasty = False
        # What runs now; replaced as one, so that the watch never sees half of it.
        self.run: Run | None = None
        self._flags, self._slot = flags, slot
        self._name_thread, self._close = name_thread, close

    def begin(self, options: RunOptions | None, expected_s: float) -> None:
        """The thread enters `session.run` with these options; `expected_s` is how long such a run takes, 0 if unknown."""
        if self._name_thread is not None:
            self._name_thread(threading.get_ident())
            self._name_thread = None
        self.run = (options, expected_s)
        self._flags[self._slot] = 1

    def end(self) -> None:
        """The thread is out again, with an answer or an error."""
        self._flags[self._slot] = 0
        self.run = None

    @property
    def loads(self) -> bool:
        """Whether it is about loading, which is no run of a graph."""
        return not self.graph

    def close(self) -> None:
        """The thread runs nothing more. Call it from that thread, or after its end."""
        if self._close is not None:
            self._close(self)
            self._close = None


def make_unwatched_guard(model: str, version: str, graph: str, digest: str) -> Guard:
    """A guard that nobody looks at."""
    return Guard(model, version, graph, digest, flags=bytearray(1), slot=0, name_thread=None, close=None)
