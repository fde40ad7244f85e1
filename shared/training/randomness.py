"""Randomness that depends on the seed, the epoch and the item, and on neither process nor order: so N processes see what
one sees, and a resumed training what an unbroken one would have seen.

All augmentation draws from `item_rng` or `item_uniforms`; the only dropout is `GlobalDropout`. `nn.Dropout`, an LSTM's
`dropout=` and the like draw from the process's own generator and are refused by `distributed.wrap` when there are several
processes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.training import position

_MASK_64 = (1 << 64) - 1
# Steps of splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def item_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of everything random about item `index` in `epoch`."""
    return np.random.Generator(np.random.PCG64(mix(seed, epoch, index)))


def item_uniforms(
    seed: int, epoch: int, indices: Sequence[int] | NDArray[np.int64], draws: int
) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) for many items at once: row i is that of item indices[i], whatever items stand beside it.

    Returns [len(indices), draws]. Much faster than a generator for each item, where a few numbers are enough.
    """
    items = np.asarray(indices, dtype=np.uint64)[:, None]
    numbers = np.arange(1, draws + 1, dtype=np.uint64)[None, :]
    with np.errstate(over="ignore"):
        start = _mix_array(items + np.uint64(mix(seed, epoch)))
        mixed = _mix_array(start + numbers * np.uint64(_GOLDEN))
    # The 53 bits that a double holds.
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def mix(*numbers: int) -> int:
    """A seed of 64 bits from several whole numbers; their order counts."""
    state = 0
    for number in numbers:
        state = (state + (number & _MASK_64) + _GOLDEN) & _MASK_64
        state = ((state ^ (state >> 30)) * _MIX_1) & _MASK_64
        state = ((state ^ (state >> 27)) * _MIX_2) & _MASK_64
        state ^= state >> 31
    return state


def seed_everything(*numbers: int) -> None:
    """Seeds the process's own generators (random, numpy, torch) from `numbers`."""
    seed = mix(*numbers)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.manual_seed(seed & 0x7FFFFFFFFFFFFFFF)


class GlobalDropout(nn.Module):
    """Dropout whose mask is drawn for the whole global batch and cut to this process's items.

    Inputs are [rows, …] with the items first, in the batch's order; rows may be a multiple of the items (say one per
    token), padded alike in all processes. Exported and in evaluation it does nothing. `distributed.wrap` must have seen
    the model, and training must run inside a loop over `GlobalBatches`.

    p: the share of values that is dropped.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p: expected a share from 0 to below 1, got {p}")
        self.p = p
        self._seed: int | None = None
        self._calls: tuple[position.Position | None, int] = (None, 0)

    def prepare(self, seed: int, number: int) -> None:
        """Gives the layer its seed and its number in the model; `distributed.wrap` calls it."""
        self._seed = mix(seed, number)

    def forward(self, x: Tensor) -> Tensor:
        """Drops a share p of x's values and scales the others up by 1 / (1 - p)."""
        if not self.training or self.p == 0:
            return x
        here = position.current()
        if here is None or self._seed is None:
            raise RuntimeError(
                "GlobalDropout trains only in a model given to distributed.wrap, inside a loop over GlobalBatches"
            )
        items = here.end - here.begin
        if x.shape[0] % items:
            raise RuntimeError(f"GlobalDropout: expected rows for {items} items, got {x.shape[0]} rows")
        # A layer that is called several times in one step, as in a loop over time, draws anew each time.
        call = self._calls[1] + 1 if self._calls[0] is here else 0
        self._calls = (here, call)
        per_item = x.shape[0] // items
        generator = torch.Generator(device=x.device)
        generator.manual_seed(mix(self._seed, here.epoch, here.step, call) & 0x7FFFFFFFFFFFFFFF)
        shape = (here.global_size * per_item, *x.shape[1:])
        uniforms = torch.rand(shape, generator=generator, device=x.device)
        kept = uniforms[here.begin * per_item : here.end * per_item] >= self.p
        return x * kept.to(x.dtype) / (1 - self.p)

    def extra_repr(self) -> str:
        """What stands in the model's text."""
        return f"p={self.p}"


def _mix_array(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(_MIX_1)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(_MIX_2)
    return state ^ (state >> np.uint64(31))
