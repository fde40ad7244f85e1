"""Randomness that belongs to items, not to processes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from shared.training import position
from shared.training.batches import GlobalBatches
from shared.training.distributed import wrap
from shared.training.position import Position
from shared.training.randomness import GlobalDropout, item_rng, item_uniforms, mix, seed_everything
from shared.training.run import Run


def test_an_item_draws_the_same_whatever_was_drawn_before() -> None:
    assert item_rng(1, 2, 3).integers(1 << 60) == item_rng(1, 2, 3).integers(1 << 60)
    drawn = {int(item_rng(s, e, i).integers(1 << 60)) for s in range(5) for e in range(5) for i in range(5)}
    assert len(drawn) == 125


def test_uniforms_of_an_item_do_not_depend_on_its_neighbours() -> None:
    together = item_uniforms(7, 3, np.arange(1000), 4)
    assert np.array_equal(item_uniforms(7, 3, [500, 17, 999], 4), together[[500, 17, 999]])
    assert np.array_equal(item_uniforms(7, 3, np.arange(1000), 2), together[:, :2])
    assert not np.isin(item_uniforms(7, 4, np.arange(1000), 4), together).any()


def test_uniforms_are_uniform_and_independent() -> None:
    drawn = item_uniforms(0, 1, np.arange(20_000), 3)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = np.histogram(drawn, bins=20, range=(0, 1))[0]
    # 19 degrees of freedom: above 43.8 once in a thousand.
    assert ((counts - 3000) ** 2 / 3000).sum() < 43.8
    columns = np.corrcoef(np.concatenate([drawn[:-1], drawn[1:]], axis=1).T)
    # Standard error 0.007.
    assert np.abs(columns - np.eye(6)).max() < 0.03


def test_mix_tells_the_order_of_its_numbers() -> None:
    assert len({mix(0), mix(1), mix(0, 0), mix(0, 1), mix(1, 0), mix(-1)}) == 6


def test_seeding_repeats_all_generators() -> None:
    import random

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    seed_everything(3, 4)
    first = draw()
    assert draw() != first
    seed_everything(3, 4)
    assert draw() == first


def dropouts(run: Run, p: float = 0.3, count: int = 2) -> list[GlobalDropout]:
    model = wrap(nn.Sequential(*(GlobalDropout(p) for _ in range(count))), run)
    return list(model.train())


def at(begin: int, end: int, size: int, step: int = 0, epoch: int = 1) -> None:
    position.move(Position(epoch, step, 10, begin, end, size))


def test_processes_drop_what_one_would_drop(run: Run) -> None:
    layer = dropouts(run)[0]
    x = torch.rand(10, 5, 6) + 1
    at(0, 10, 10)
    whole = layer(x)
    parts = []
    for begin, end in ((0, 4), (4, 7), (7, 10)):
        at(begin, end, 10)
        parts.append(layer(x[begin:end]))
    assert torch.equal(torch.cat(parts), whole)


def test_rows_may_be_several_to_an_item(run: Run) -> None:
    layer = dropouts(run)[0]
    x = torch.ones(12, 5)
    at(0, 4, 4)
    whole = layer(x)
    at(1, 4, 4)
    assert torch.equal(layer(x[3:]), whole[3:])
    with pytest.raises(RuntimeError, match="expected rows for 3 items, got 4 rows"):
        layer(x[:4])


def test_it_drops_its_share_and_keeps_the_mean(run: Run) -> None:
    layer = dropouts(run, p=0.3)[0]
    at(0, 500, 500)
    dropped = layer(torch.ones(500, 200))
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.01)


def test_layers_steps_epochs_and_calls_differ(run: Run) -> None:
    one, other = dropouts(run)
    x = torch.ones(4, 50)
    seen = []
    for step, epoch in ((0, 1), (1, 1), (0, 2)):
        at(0, 4, 4, step, epoch)
        seen += [one(x), one(x), other(x)]
    for n, left in enumerate(seen):
        assert not any(torch.equal(left, right) for right in seen[:n])


def test_in_evaluation_it_does_nothing(run: Run) -> None:
    x = torch.rand(3, 4)
    assert dropouts(run)[0].eval()(x) is x


def test_outside_of_training_it_says_so(run: Run) -> None:
    with pytest.raises(RuntimeError, match=r"distributed\.wrap, inside a loop over GlobalBatches"):
        dropouts(run)[0](torch.ones(2, 2))
    at(0, 2, 2)
    with pytest.raises(RuntimeError, match=r"distributed\.wrap"):
        GlobalDropout(0.1)(torch.ones(2, 2))
    with pytest.raises(ValueError, match="from 0 to below 1"):
        GlobalDropout(1)


def test_a_loop_over_batches_moves_the_position(ranks: Callable[[int], list[Run]]) -> None:
    for run in ranks(2):
        for batch in GlobalBatches(10, 4, 0, run).epoch(5):
            here = position.current()
            assert here is not None
            assert (here.epoch, here.step, here.steps) == (5, batch.step, 3)
            assert np.array_equal(batch.global_indices[here.begin : here.end], batch.indices)
        assert position.current() is None
