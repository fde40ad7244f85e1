"""Labelled pictures in memory, whatever format they came in, and how they are divided.

Not here: reading (one module per format), augmentation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.training.errors import DataError, TrainingError

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Pictures:
    """n pictures of one size.

    pixels: UINT8 [n, height, width] (grey) or [n, height, width, 3] (RGB); labels: INT64 [n], places in `classes`;
    origin: the folder or file they came from; names: of the single files, or empty.
    """

    pixels: Pixels
    labels: Labels
    classes: tuple[str, ...]
    origin: Path
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def channels(self) -> int:
        """1 or 3."""
        return 1 if self.pixels.ndim == 3 else 3

    @property
    def sha256(self) -> str:
        """Digest of pixels, labels and classes; the same pictures in another format or place have the same."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for array in (self.pixels, self.labels.astype("<i8")):
            digest.update(str(array.shape).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def take(self, indices: NDArray[np.int64] | Sequence[int]) -> Pictures:
        """The pictures at these places, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        names = tuple(self.names[index] for index in chosen) if self.names else ()
        return replace(self, pixels=self.pixels[chosen], labels=self.labels[chosen], names=names)

    def limit(self, count: int | None) -> Pictures:
        """At most `count` pictures, the classes in turn, each one's first ones first."""
        if count is None or count >= len(self):
            return self
        turn = np.empty(len(self), np.int64)
        for label in range(len(self.classes)):
            mine = np.flatnonzero(self.labels == label)
            turn[mine] = np.arange(len(mine))
        return self.take(np.sort(np.lexsort((self.labels, turn))[:count]))


def check_classes(pictures: Pictures, *, advice: str) -> Pictures:
    """Gives back what can be trained on.

    Raises:
        DataError: there are no pictures, all are of one class, or a class is empty.
    """
    if not len(pictures):
        raise DataError(pictures.origin, expected="labelled pictures", got="none", advice=advice)
    counts = np.bincount(pictures.labels, minlength=len(pictures.classes))
    if np.count_nonzero(counts) < 2:
        only = pictures.classes[int(counts.argmax())]
        raise DataError(pictures.origin, expected="at least two classes", got=f"one, {only!r}", advice=advice)
    if empty := [name for name, count in zip(pictures.classes, counts, strict=True) if not count]:
        raise DataError(
            pictures.origin,
            expected="pictures of every class",
            got=f"none of {empty[0]!r}",
            advice="add some, or remove the class",
        )
    return pictures


def check_counts(pictures: Pictures, least: int, purpose: str) -> None:
    """Raises DataError, which names the class, where one has fewer than `least` pictures."""
    counts = np.bincount(pictures.labels, minlength=len(pictures.classes))
    if few := [(name, count) for name, count in zip(pictures.classes, counts, strict=True) if count < least]:
        name, count = few[0]
        others = f" (and too few of {len(few) - 1} more classes)" if len(few) > 1 else ""
        raise DataError(
            pictures.origin,
            expected=f"at least {least} pictures of each class, {purpose}",
            got=f"{count} of {name!r}{others}",
            advice="add some, or remove the class",
        )


def fold(labels: Labels, index: int, count: int, seed: int) -> tuple[Labels, Labels]:
    """Places of the pictures outside and inside part `index` of `count`, each class divided evenly over the parts.

    The `count` parts of one seed are disjoint and together everything. Both are in ascending order.
    """
    if not 0 <= index < count:
        raise ValueError(f"index: expected 0 to {count - 1}, got {index}")
    rng = np.random.default_rng(seed)
    inside = np.zeros(len(labels), bool)
    # Parts whose number goes on from class to class keep the parts' sizes within one of each other.
    start = 0
    for label in np.unique(labels):
        mine = rng.permutation(np.flatnonzero(labels == label))
        inside[mine[(np.arange(len(mine)) + start) % count == index]] = True
        start += len(mine)
    return np.flatnonzero(~inside), np.flatnonzero(inside)


def hold_out(labels: Labels, share: float, seed: int) -> tuple[Labels, Labels]:
    """Places of the pictures that stay and of those held out, about `share` of each class but at least one of each.

    Raises:
        TrainingError: a class has fewer than two pictures.
    """
    rng = np.random.default_rng(seed)
    inside = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        mine = rng.permutation(np.flatnonzero(labels == label))
        if len(mine) < 2:
            raise TrainingError(
                f"class {label}: expected at least 2 pictures, one to learn from and one to judge by, got {len(mine)}; "
                "is --limit too small?"
            )
        inside[mine[: min(len(mine) - 1, max(1, round(share * len(mine))))]] = True
    return np.flatnonzero(~inside), np.flatnonzero(inside)
