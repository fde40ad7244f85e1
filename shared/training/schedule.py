"""Learning rates over time, as factors of --learning-rate: functions of how much of the training is done, 0 … 1.

They have no state, so a resumed training needs none of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[float], float]


def constant(warmup: float = 0.0) -> Schedule:
    """The same all along, after a linear rise over the first share `warmup` of the training."""
    return lambda done: _rise(done, warmup)


def cosine(warmup: float = 0.0, final: float = 0.0) -> Schedule:
    """Half a cosine down to the factor `final`, after a linear rise over the first share `warmup`."""

    def factor(done: float) -> float:
        fall = max(0.0, done - warmup) / max(1e-9, 1 - warmup)
        return _rise(done, warmup) * (final + (1 - final) * (1 + math.cos(math.pi * min(1.0, fall))) / 2)

    return factor


def linear(warmup: float = 0.0, final: float = 0.0) -> Schedule:
    """A straight line down to the factor `final`, after a linear rise over the first share `warmup`."""

    def factor(done: float) -> float:
        fall = max(0.0, done - warmup) / max(1e-9, 1 - warmup)
        return _rise(done, warmup) * (1 + (final - 1) * min(1.0, fall))

    return factor


def _rise(done: float, warmup: float) -> float:
    # A first step of size 0 would be a wasted one.
    return min(1.0, (done + 1e-3) / warmup) if warmup > 0 else 1.0
