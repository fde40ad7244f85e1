"""Graph and network are compared on every item; too few items, or one that differs, are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from shared.training.export import to_onnx
from shared.training.parity import Batch, ParityError, check_kept, check_parity, read_kept
from tests.training.export.networks import CASES, GRAMS, Grams, draw_grams, make


def draw_batches(count: int, rows: int = 64) -> list[Batch]:
    return [
        {
            key: value.numpy()
            for key, value in draw_grams(rows, 5 + seed, torch.Generator().manual_seed(seed)).items()
        }
        for seed in range(count)
    ]


@pytest.fixture(scope="module")
def network() -> Grams:
    return make(CASES["grams"])


@pytest.fixture(scope="module")
def content(network: Grams) -> bytes:
    return to_onnx(network, draw_grams(3, 7, torch.Generator().manual_seed(0)), ["logits"], GRAMS)


def test_a_thousand_items_are_asked_for(network: Grams, content: bytes) -> None:
    assert check_parity(network, content, draw_batches(16)).items == 1024
    with pytest.raises(ParityError, match="expected at least 1000, got 640"):
        check_parity(network, content, draw_batches(10))


def test_what_torch_answered_is_kept_and_compared_again_without_it(
    network: Grams, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "run" / "parity.npz"
    made = check_parity(network, content, draw_batches(3), at_least=1, keep=path)
    assert check_kept(content, path, at_least=192) == made
    inputs, outputs = read_kept(path)[2]
    assert inputs["ids"].shape == (64, 7)
    assert outputs["logits"].shape == (64, 5)


def test_a_network_that_was_changed_is_told_by_output_item_and_size(network: Grams, content: bytes) -> None:
    changed = make(CASES["grams"])
    with torch.no_grad():
        changed.table.weight[7] += 1.0
    with pytest.raises(
        ParityError, match=r"logits: item \d+: graph and network differ by .*, expected at most 0.0001"
    ):
        check_parity(changed, content, draw_batches(16))


def test_not_a_number_is_never_close(content: bytes) -> None:
    broken = make(CASES["grams"])
    with torch.no_grad():
        broken.last.bias[0] = float("nan")
    with pytest.raises(ParityError, match="logits: item 0"):
        check_parity(broken, content, draw_batches(1), at_least=1)


def test_it_is_compared_as_it_evaluates_and_left_training(content: bytes) -> None:
    network = make(CASES["grams"]).train()
    batch = draw_batches(1)[0]
    check_parity(network, content, [batch], at_least=1)
    assert network.training
    assert np.isfinite(batch["counts"]).all()
