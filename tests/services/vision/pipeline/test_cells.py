"""Grids over pictures, and cells that are covered."""

import numpy as np
import pytest

from services.vision.pipeline.cells import Grid, cover, find_ground, lay_grid


@pytest.mark.parametrize(
    ("width", "height", "cells", "grid"),
    [
        (224, 224, 63, Grid(8, 7)),
        (300, 200, 60, Grid(6, 9)),
        (200, 300, 60, Grid(9, 6)),
        (2000, 10, 60, Grid(1, 60)),
        (10, 2000, 60, Grid(60, 1)),
        (3, 2, 60, Grid(2, 3)),
        (1, 1, 60, Grid(1, 1)),
        (50, 50, 1, Grid(1, 1)),
    ],
)
def test_cells_are_near_to_squares_and_never_too_many(
    width: int, height: int, cells: int, grid: Grid
) -> None:
    assert lay_grid(width, height, cells) == grid
    assert grid.count <= max(cells, 1)


def test_every_pixel_is_in_one_cell_and_cells_are_rectangles() -> None:
    grid = Grid(3, 4)
    cells = grid.map_pixels(10, 15)
    assert set(cells.ravel()) == set(range(12))
    for cell in range(12):
        rows, columns = np.nonzero(cells == cell)
        assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert cells[0, 0] == 0
    assert cells[0, -1] == 3
    assert cells[-1, 0] == 8


def test_covered_cells_have_the_colour_of_the_ground() -> None:
    pixels = np.full((20, 20, 3), 240, np.uint8)
    pixels[8:12, 8:12] = (10, 20, 30)
    ground = find_ground(pixels)
    assert ground.tolist() == [240, 240, 240]
    cells = Grid(5, 5).map_pixels(20, 20)
    kept = np.ones(25, bool)
    kept[12] = False
    assert (cover(pixels, ground, cells, kept) == 240).all()
    kept[:] = True
    np.testing.assert_array_equal(cover(pixels, ground, cells, kept), pixels)
