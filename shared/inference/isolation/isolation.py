"""The isolation of one process: guards for its threads, and which models must not be loaded.

Here: what the rest of the runtime sees. Not here: how hangs are found (`watch.py`), how crashes are (`marker.py`),
how blame is counted (`record.py`).
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

from shared.inference.isolation.guard import Guard, make_unwatched_guard

__all__ = ["Guard", "Isolation"]


class Isolation:
    """One per process, made in `__main__` before any model is loaded and given to the repository."""

    @classmethod
    def off(cls) -> Isolation:
        """Watches nothing and blames nobody: for tests and tools."""
        return cls()

    def guard(self, model: str, version: str, graph: str, digest: str = "") -> Guard:
        """A guard for one thread's runs of one graph; `digest` is the artifact's. Close it when the thread ends."""
        return make_unwatched_guard(model, version, graph, digest)

    def loading(self, model: str, version: str, digest: str) -> AbstractContextManager[None]:
        """Around everything that this thread does with a model outside of its batcher: opening, golden checks, measuring."""
        return contextlib.nullcontext()

    def quarantined(self, model: str, version: str, digest: str) -> str | None:
        """Why the model with this artifact digest must not be loaded, in words for its user; None if it may be."""
        return None
