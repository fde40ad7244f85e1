"""Pictures changed at random, another way in each epoch: moved, turned, bent, drawn with a thinner or thicker pen, in
other light.

All randomness is drawn by item, so what an item becomes depends neither on its batch nor on the process that has it.
Not here: what serving does with a picture (`services/vision/pipeline`), which comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from shared.training.randomness import item_uniforms

# The places that a bend is drawn for lie 7 pixels apart in a digit: strokes are bent, not frayed.
_BEND_GRID = 5


@dataclass(frozen=True)
class DigitAugmentation:
    """How far single digits are changed; every value is the most, drawn evenly up to it in both directions.

    turn: degrees; slant: shear, pixels to the side per pixel up; scale: share of the size, each axis on its own; shift and
    bend: pixels of 28; pen: share of the way to the picture thickened (or thinned) by a pixel.
    """

    turn: float = 12.0
    slant: float = 0.25
    scale: float = 0.12
    shift: float = 1.0
    bend: float = 1.2
    pen: float = 0.4

    def __call__(self, images: Tensor, seed: int, epoch: int, indices: NDArray[np.int64]) -> Tensor:
        """[n, 1, 28, 28] of ink 0..1, the items' numbers beside; the same shape out."""
        draws = item_uniforms(seed, epoch, indices, 7 + 2 * _BEND_GRID**2) * 2 - 1
        drawn = torch.from_numpy(draws.astype(np.float32)).to(images.device)
        turn = drawn[:, 0] * np.deg2rad(self.turn)
        slant = drawn[:, 1] * self.slant
        across, down = 1 + drawn[:, 2] * self.scale, 1 + drawn[:, 3] * self.scale
        side = images.shape[-1]
        # affine_grid counts from -1 to 1 over the picture.
        pixel = 2 / side
        matrices = make_matrices(turn, slant, across, down, drawn[:, 4:6] * self.shift * pixel)
        grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
        bends = drawn[:, 7:].reshape(-1, 2, _BEND_GRID, _BEND_GRID) * self.bend * pixel
        grid = grid + functional.interpolate(bends, size=(side, side), mode="bicubic").permute(0, 2, 3, 1)
        warped = functional.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
        thicker = functional.max_pool2d(warped, 3, 1, 1)
        thinner = -functional.max_pool2d(-warped, 3, 1, 1)
        pen = (drawn[:, 6] * self.pen)[:, None, None, None]
        changed = torch.where(pen > 0, thicker, thinner)
        return (warped + pen.abs() * (changed - warped)).clamp(0, 1)


@dataclass(frozen=True)
class PhotoAugmentation:
    """How far pictures of things are changed.

    zoom: the least share of the side that is kept; turn: degrees; flip: left and right may be swapped, which no text or
    arrow survives; light: share of brightness, contrast and colour, each on its own.
    """

    zoom: float = 0.7
    turn: float = 10.0
    flip: bool = True
    light: float = 0.3

    def __call__(
        self, images: Tensor, side: int, seed: int, epoch: int, indices: NDArray[np.int64]
    ) -> Tensor:
        """[n, channels, height, width] of 0..255, the items' numbers beside; [n, channels, side, side] out."""
        drawn = torch.from_numpy(item_uniforms(seed, epoch, indices, 9).astype(np.float32)).to(images.device)
        kept = self.zoom + (1 - self.zoom) * drawn[:, 0]
        # A little wider or higher than it was.
        stretch = 1 + 0.15 * (2 * drawn[:, 1] - 1)
        turn = (2 * drawn[:, 2] - 1) * np.deg2rad(self.turn)
        # Anywhere that the kept part fits into.
        shift = (2 * drawn[:, 3:5] - 1) * (1 - kept)[:, None]
        mirror = torch.where(drawn[:, 5] < 0.5, -1.0, 1.0) if self.flip else torch.ones_like(kept)
        matrices = make_matrices(turn, torch.zeros_like(turn), kept * stretch * mirror, kept / stretch, shift)
        count, channels = images.shape[:2]
        grid = functional.affine_grid(matrices, [count, channels, side, side], align_corners=False)
        warped = functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        factors = 1 + self.light * (2 * drawn[:, 6:9] - 1)
        brightness, contrast, color = (factors[:, place, None, None, None] for place in range(3))
        mean = warped.mean(dim=(1, 2, 3), keepdim=True)
        lit = (warped - mean) * contrast + mean * brightness
        if channels == 3:
            gray = lit.mean(dim=1, keepdim=True)
            lit = gray + (lit - gray) * color
        return lit.clamp(0, 255)


def make_matrices(turn: Tensor, slant: Tensor, across: Tensor, down: Tensor, shift: Tensor) -> Tensor:
    """Matrices [n, 2, 3] that say, for each place of the new picture, where in the old one it lies.

    turn: radians; across, down: the old one's share that fills the new one's sides; shift: [n, 2] in halves of a side.
    """
    cos, sin = torch.cos(turn), torch.sin(turn)
    rows: Sequence[Tensor] = (
        torch.stack([cos * across, (slant * cos - sin) * down, shift[:, 0]], dim=1),
        torch.stack([sin * across, (slant * sin + cos) * down, shift[:, 1]], dim=1),
    )
    return torch.stack(list(rows), dim=1)
