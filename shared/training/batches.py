"""Which items make up which step: the same global batches however many processes share them.

Items are only numbered here; a script takes them from its own arrays by `batch.indices`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.training import position
from shared.training.errors import TrainingError
from shared.training.position import Position
from shared.training.randomness import mix
from shared.training.run import Run

# Batches whose items are sorted by length together: more of them pad less, fewer mix better.
_POOL_BATCHES = 50


@dataclass(frozen=True)
class Batch:
    """This process's part of one global batch.

    indices: INT64 [items], this process's items; global_indices: INT64 [global_size], everybody's, `indices` lies in it
    at begin…end; longest: the greatest length in the GLOBAL batch, to which every process pads (0 without lengths).
    A step's loss is the sum over `indices` divided by `global_size`.
    """

    epoch: int
    step: int
    indices: NDArray[np.int64]
    global_indices: NDArray[np.int64]
    begin: int
    longest: int

    @property
    def global_size(self) -> int:
        """Items of all processes together: the divisor of the step's loss."""
        return len(self.global_indices)

    def __len__(self) -> int:
        """This process's items."""
        return len(self.indices)


class GlobalBatches:
    """Global batches of items 0 … count - 1, in a new order each epoch, and this process's part of each.

    Batches differ by at most one item in size and none is larger than batch_size, so there is no small last one; every
    process gets at least one item of each. With `lengths` (one per item) items of similar length come together.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        run: Run,
        lengths: Sequence[int] | NDArray[np.int64] | None = None,
        *,
        shuffle: bool = True,
    ) -> None:
        """count: items; batch_size: at most so many in a step, over all processes; shuffle: False = the order of the
        items in every epoch, as evaluation wants it (with lengths: sorted by them).

        Raises:
            TrainingError: there are no items, or fewer in a batch than processes.
        """
        if count < 1:
            raise TrainingError("expected at least one item to train on, got none; is --limit too small?")
        self._lengths = None if lengths is None else np.asarray(lengths, dtype=np.int64)
        if self._lengths is not None and len(self._lengths) != count:
            raise ValueError(f"lengths: expected {count}, got {len(self._lengths)}")
        self._steps = -(-count // batch_size)
        if count // self._steps < run.world:
            raise TrainingError(
                f"{count} items in batches of {batch_size} leave a process without an item: expected at least "
                f"{run.world} in each, one a process; raise --batch-size or start fewer processes"
            )
        self._count, self._seed, self._run, self._shuffle = count, seed, run, shuffle

    def __len__(self) -> int:
        """Steps in an epoch."""
        return self._steps

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch (from 1), this process's part of each; moves the current position along."""
        world, rank = self._run.world, self._run.rank
        try:
            for step, items in enumerate(self.split(epoch)):
                # As even as can be: parts differ by one item at most.
                begin, end = (len(items) * (rank + n) // world for n in (0, 1))
                position.move(Position(epoch, step, self._steps, begin, end, len(items)))
                longest = 0 if self._lengths is None else int(self._lengths[items].max())
                yield Batch(epoch, step, items[begin:end], items, begin, longest)
        finally:
            position.move(None)

    def split(self, epoch: int) -> list[NDArray[np.int64]]:
        """The global batches of an epoch, whoever works on them; each item is in exactly one."""
        rng = np.random.Generator(np.random.PCG64(mix(self._seed, epoch)))
        order = rng.permutation(self._count) if self._shuffle else np.arange(self._count)
        if self._lengths is None:
            return np.array_split(order, self._steps)
        if not self._shuffle:
            return np.array_split(order[np.argsort(self._lengths, kind="stable")], self._steps)
        pools = np.array_split(order, -(-self._steps // _POOL_BATCHES))
        order = np.concatenate([pool[np.argsort(self._lengths[pool], kind="stable")] for pool in pools])
        batches = np.array_split(order, self._steps)
        return [batches[n] for n in rng.permutation(self._steps)]
