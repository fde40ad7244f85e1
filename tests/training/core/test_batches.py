"""Global batches: the same whatever the number of processes, even in size, nothing lost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.training.batches import GlobalBatches
from shared.training.errors import TrainingError
from shared.training.run import Run

Ranks = Callable[[int], list[Run]]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(1, 400),
    batch_size=st.integers(1, 70),
    world=st.integers(1, 5),
    seed=st.integers(0, 1 << 40),
    by_length=st.booleans(),
    shuffle=st.booleans(),
)
def test_processes_share_what_one_would_take(
    ranks: Ranks, count: int, batch_size: int, world: int, seed: int, by_length: bool, shuffle: bool
) -> None:
    lengths = np.random.default_rng(seed).integers(1, 100, count) if by_length else None
    runs = ranks(world)
    steps = -(-count // batch_size)
    if count // steps < world:
        with pytest.raises(TrainingError, match="leave a process without an item"):
            GlobalBatches(count, batch_size, seed, runs[0], lengths, shuffle=shuffle)
        return
    alone = list(GlobalBatches(count, batch_size, seed, ranks(1)[0], lengths, shuffle=shuffle).epoch(2))
    shared = [
        list(GlobalBatches(count, batch_size, seed, run, lengths, shuffle=shuffle).epoch(2)) for run in runs
    ]
    assert sorted(np.concatenate([batch.indices for batch in alone])) == list(range(count))
    assert len(alone) == steps
    sizes = [len(batch) for batch in alone]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    for step, whole in enumerate(alone):
        parts = [batches[step] for batches in shared]
        assert np.array_equal(np.concatenate([part.indices for part in parts]), whole.indices)
        assert all(len(part) >= 1 for part in parts)
        for part in parts:
            assert part.global_size == len(whole)
            assert np.array_equal(part.global_indices, whole.indices)
            assert np.array_equal(part.global_indices[part.begin :][: len(part)], part.indices)
            assert part.longest == (0 if lengths is None else lengths[whole.indices].max())


def test_every_epoch_and_seed_has_an_order_of_its_own(run: Run) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(GlobalBatches(100, 10, seed, run).split(epoch)).tolist()

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (1, 2, 3)}) == 6


def test_without_shuffling_items_come_in_their_order(run: Run) -> None:
    batches = GlobalBatches(10, 4, 0, run, shuffle=False)
    assert np.concatenate(batches.split(1)).tolist() == list(range(10))
    assert len(batches) == 3


def test_similar_lengths_come_together_in_no_order_of_length(run: Run) -> None:
    lengths = np.random.default_rng(0).geometric(0.02, 6400)

    def padding(batches: GlobalBatches) -> float:
        padded = sum(len(items) * lengths[items].max() for items in batches.split(1))
        return padded / lengths.sum()

    sorted_in = GlobalBatches(6400, 32, 0, run, lengths)
    assert padding(sorted_in) < 1.15
    assert padding(GlobalBatches(6400, 32, 0, run)) > 3
    longest = [int(lengths[items].max()) for items in sorted_in.split(1)]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.3


def test_no_items_are_told() -> None:
    with pytest.raises(TrainingError, match="at least one item"):
        GlobalBatches(0, 4, 0, None)


def test_lengths_are_one_for_each_item(run: Run) -> None:
    with pytest.raises(ValueError, match="lengths: expected 5, got 4"):
        GlobalBatches(5, 2, 0, run, [1, 2, 3, 4])
