"""What the core's tests train: 1,797 digits of 8×8 pixels, as `train_digits` reads them, and runs of any rank."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from shared.training.arguments import make_parser
from shared.training.run import Run, start
from tests.training.core import train_digits

MODULE = "tests.training.core.train_digits"


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    found = load_digits()
    np.savez(folder / "digits.npz", images=found.images, labels=found.target)
    return folder


@pytest.fixture
def arguments(data: Path, tmp_path: Path) -> Callable[..., argparse.Namespace]:
    """Parses train_digits' command line: `arguments("--epochs", 3)`; --out is `out` in the test's folder."""

    def parse(*more: object) -> argparse.Namespace:
        fixed = ["--data", str(data), "--out", str(tmp_path / "out"), "--limit", "300", "--threads", "1"]
        return train_digits.get_args_parser().parse_args([*fixed, *map(str, more)])

    return parse


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A run of one process on the CPU."""
    parser = make_parser("A test.", epochs=1, batch_size=4, learning_rate=0.1)
    parsed = parser.parse_args(["--out", str(tmp_path / "run"), "--device", "cpu", "--threads", "1"])
    with start(parsed, "test") as made:
        yield made


@pytest.fixture
def ranks(run: Run) -> Callable[[int], list[Run]]:
    """The runs that so many processes would have; for what asks nothing of the others."""
    return lambda world: [replace(run, rank=rank, world=world) for rank in range(world)]
