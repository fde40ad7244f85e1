"""Where training stands: which global batch is being worked on, and which part of it is this process's.

`GlobalBatches` moves the position as it is iterated; `GlobalDropout` and the learning rate's schedule read it. One
process trains one model at a time, in one thread, so one position is enough.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Position:
    """One step of one epoch.

    epoch: from 1; step: from 0; steps: in an epoch; begin, end: this process's items within the global batch of
    `global_size` items.
    """

    epoch: int
    step: int
    steps: int
    begin: int
    end: int
    global_size: int

    @property
    def passes(self) -> float:
        """Passes over the data that are done, 0 at the first step of the first epoch."""
        return self.epoch - 1 + self.step / self.steps


_current: Position | None = None


def move(position: Position | None) -> None:
    """Makes `position` the current one; None = between epochs."""
    global _current
    _current = position


def current() -> Position | None:
    """The step that is being worked on, None outside of a loop over `GlobalBatches`."""
    return _current
