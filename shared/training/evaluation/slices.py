"""The same figures on parts of the items, so that a card can say where a model is worse.

Lives here: cutting by a key and comparing each part with the rest. Not here: what the keys are; each recipe knows its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.training.evaluation.interval import Interval, wilson


@dataclass(frozen=True)
class Slice:
    """One part of the items: its accuracy, and whether it differs from that of all others."""

    name: str
    items: int
    accuracy: Interval
    p_value: float  # Fisher's exact test against the rest; 1 where there is no rest


def cut(correct: NDArray[Any], keys: Sequence[str] | NDArray[Any], *, at_least: int = 20) -> list[Slice]:
    """Slices by key, worst first; parts of fewer items than `at_least` are put together as `(few)`."""
    from scipy.stats import fisher_exact

    correct, keys = np.asarray(correct, bool), np.asarray(keys).astype(str)
    if correct.shape != keys.shape:
        raise ValueError(f"expected one key per item, got {len(keys)} for {len(correct)}")
    names, counts = np.unique(keys, return_counts=True)
    few = set(names[counts < at_least])
    if few and len(few) < len(names):
        keys = np.array(["(few)" if key in few else key for key in keys])
    found = []
    for name in np.unique(keys):
        inside = keys == name
        right, items = int(correct[inside].sum()), int(inside.sum())
        other, rest = int(correct[~inside].sum()), int((~inside).sum())
        p_value = fisher_exact([[right, items - right], [other, rest - other]]).pvalue if rest else 1.0
        found.append(Slice(str(name), items, wilson(right, items), float(p_value)))
    return sorted(found, key=lambda part: part.accuracy.value)


def by_length(lengths: Sequence[float] | NDArray[Any], bounds: Sequence[float], unit: str) -> NDArray[Any]:
    """Keys of items by a number of theirs: `under 5 words`, `5 to 20 words`, `20 words or more`."""
    names = [f"under {bounds[0]:g} {unit}"]
    names += [f"{low:g} to {high:g} {unit}" for low, high in itertools.pairwise(bounds)]
    names.append(f"{bounds[-1]:g} {unit} or more")
    return np.array(names)[np.searchsorted(bounds, np.asarray(lengths), side="right")]


def join(slices: Mapping[str, Sequence[Slice]]) -> list[tuple[str, Slice]]:
    """Slices of several keys as one list of (key, slice), in the order given."""
    return [(key, part) for key, parts in slices.items() for part in parts]
