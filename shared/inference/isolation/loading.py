"""Runs that belong to loading: golden checks, warming up, measuring. One that hangs is asked to end like any other.

They are made on the thread that loads, deep below where that began: its guard is found by the thread. Not here: runs for
callers, whose thread holds its guard in its hand.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from shared.inference.datatypes import Array
from shared.inference.isolation.guard import Guard
from shared.inference.session.session import RunError, RunOptions, Session

_threads = threading.local()


@contextmanager
def loading_under(guard: Guard) -> Iterator[None]:
    """Until the block ends, this thread loads a model under a guard, which is closed then."""
    guard.begin(None, 0.0)
    before: Guard | None = getattr(_threads, "guard", None)
    _threads.guard = guard
    try:
        yield
    finally:
        _threads.guard = before
        guard.end()
        guard.close()


def run_loading(session: Session, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
    """Run a graph as part of loading it; blocks.

    Raises:
        RunError: it failed on these values, or took so long that it was ended.
    """
    guard: Guard | None = getattr(_threads, "guard", None)
    if guard is None:
        return session.run(inputs, outputs)
    options = RunOptions()
    guard.begin(options, 0.0)
    try:
        return session.run(inputs, outputs, options)
    except RunError as error:
        if options.terminate:
            raise RunError("it hangs: a run took too long and was ended", out_of_memory=False) from error
        raise
    finally:
        guard.begin(None, 0.0)
