"""A picture cut into a grid of cells, some of which are covered.

Not here: which are covered and what that does (`rpc.explain_image`), how it is shown (`heat_map`).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # [height, width, 3]


@dataclass(frozen=True)
class Grid:
    """Rows and columns of cells, as near to squares as whole numbers of them allow."""

    rows: int
    columns: int

    @property
    def count(self) -> int:
        """Number of cells; they are numbered row by row from the top left."""
        return self.rows * self.columns

    def map_pixels(self, height: int, width: int) -> NDArray[np.intp]:
        """The cell of each pixel, [height, width]."""
        down = np.arange(height) * self.rows // height
        across = np.arange(width) * self.columns // width
        return np.asarray(down[:, None] * self.columns + across[None, :], np.intp)


def lay_grid(width: int, height: int, cells: int) -> Grid:
    """A grid of about so many cells, and never more than pixels either way."""
    side = math.sqrt(width * height / max(cells, 1))
    rows = min(max(round(height / side), 1), height, cells)
    columns = min(max(round(width / side), 1), width, max(cells // rows, 1))
    return Grid(rows, columns)


def find_ground(pixels: Pixels) -> NDArray[np.uint8]:
    """The colour [3] that covers cells: per channel the middle one, which is the paper's where there is paper."""
    return np.asarray(np.median(pixels.reshape(-1, 3), axis=0), np.uint8)


def cover(
    pixels: Pixels, ground: NDArray[np.uint8], cells: NDArray[np.intp], kept: NDArray[np.bool_]
) -> Pixels:
    """The picture with the cells that are not kept [cells] in one colour; `cells` is `Grid.map_pixels`."""
    return np.asarray(np.where(kept[cells][..., None], pixels, ground), np.uint8)
