"""Pictures changed at random: another way for each item and epoch, the same way whoever does it."""

import numpy as np
import pytest
import torch

from services.vision.training.augmentation import DigitAugmentation, PhotoAugmentation

DIGITS = torch.from_numpy(np.random.default_rng(0).random((6, 1, 28, 28), np.float32)) ** 4
PHOTOS = torch.from_numpy(np.random.default_rng(1).random((6, 3, 40, 40), np.float32)) * 255
PLACES = np.array([3, 14, 15, 92, 65, 35])


def digits(images: torch.Tensor, epoch: int, places: np.ndarray) -> torch.Tensor:
    return DigitAugmentation()(images, 7, epoch, places)


def photos(images: torch.Tensor, epoch: int, places: np.ndarray) -> torch.Tensor:
    return PhotoAugmentation()(images, 32, 7, epoch, places)


@pytest.mark.parametrize(("augment", "images"), [(digits, DIGITS), (photos, PHOTOS)])
def test_an_item_does_not_depend_on_its_batch(augment, images: torch.Tensor) -> None:
    together = augment(images, 1, PLACES)
    alone = torch.cat([augment(images[i : i + 1], 1, PLACES[i : i + 1]) for i in range(6)])
    assert torch.allclose(together, alone, atol=1e-3)
    assert not torch.allclose(together, augment(images, 2, PLACES), atol=0.05)
    assert not torch.allclose(together, augment(images, 1, PLACES + 1), atol=0.05)
    assert torch.equal(together, augment(images, 1, PLACES))


def test_values_stay_in_range() -> None:
    changed = digits(DIGITS, 1, PLACES)
    assert changed.shape == DIGITS.shape
    assert 0 <= changed.min() <= changed.max() <= 1
    changed = photos(PHOTOS, 1, PLACES)
    assert changed.shape == (6, 3, 32, 32)
    assert 0 <= changed.min() <= changed.max() <= 255


def test_without_strength_nothing_changes() -> None:
    still = DigitAugmentation(turn=0, slant=0, scale=0, shift=0, bend=0, pen=0)
    assert torch.allclose(still(DIGITS, 7, 1, PLACES), DIGITS, atol=1e-4)


def test_what_each_strength_does() -> None:
    bar = torch.zeros(64, 1, 28, 28)
    bar[:, :, 4:24, 13:15] = 1
    places = np.arange(64)
    nothing = {"turn": 0, "slant": 0, "scale": 0, "shift": 0, "bend": 0, "pen": 0}
    pen = DigitAugmentation(**{**nothing, "pen": 1.0})(bar, 0, 1, places)
    ink = pen.sum(dim=(1, 2, 3)) / bar[0].sum()
    assert ink.min() < 0.7
    assert ink.max() > 1.5
    shifted = DigitAugmentation(**{**nothing, "shift": 3.0})(bar, 0, 1, places)
    columns = (shifted.sum(dim=(1, 2)) * torch.arange(28)).sum(dim=1) / shifted.sum(dim=(1, 2, 3))
    assert columns.min() < 11.5
    assert columns.max() > 15.5
    assert shifted.sum(dim=(1, 2, 3)).min() > 0.95 * bar[0].sum()


def test_only_a_flip_swaps_left_and_right() -> None:
    left = torch.zeros(64, 3, 40, 40)
    left[..., :20] = 200
    places = np.arange(64)
    still = {"zoom": 1.0, "turn": 0.0, "light": 0.0}
    flipped = PhotoAugmentation(**still)(left, 40, 0, 1, places)
    sides = flipped[:, 0, 20, 5] > flipped[:, 0, 20, 35]
    assert 16 < sides.sum() < 48
    kept = PhotoAugmentation(**still, flip=False)(left, 40, 0, 1, places)
    assert (kept[:, 0, 20, 5] > kept[:, 0, 20, 35]).all()
