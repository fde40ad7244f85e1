"""Connected components against a plain flood fill."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.vision.pipeline.text.component import find_outlines

Cells = frozenset[tuple[int, int]]


def parse(drawing: str) -> NDArray[np.bool_]:
    rows = [line.strip() for line in drawing.strip().splitlines()]
    return np.array([[mark == "#" for mark in row] for row in rows])


def flood(mask: NDArray[np.bool_]) -> set[Cells]:
    """Components by flood fill, as sets of (row, column)."""
    left = {(int(row), int(column)) for row, column in np.argwhere(mask)}
    found = set()
    while left:
        component, edge = set(), [left.pop()]
        while edge:
            row, column = edge.pop()
            component.add((row, column))
            around = {(row + down, column + across) for down in (-1, 0, 1) for across in (-1, 0, 1)}
            edge += around & left
            left -= around
        found.add(frozenset(component))
    return found


def outline(component: Cells) -> set[tuple[float, float]]:
    """The first and last pixel of each row, as x, y."""
    ends = set()
    for row in {row for row, _ in component}:
        columns = [column for at, column in component if at == row]
        ends |= {(float(min(columns)), float(row)), (float(max(columns)), float(row))}
    return ends


def find(mask: NDArray[np.bool_], min_area: float = 0) -> list[set[tuple[float, float]]]:
    return [set(map(tuple, points.tolist())) for points in find_outlines(mask, min_area=min_area)]


def test_corners_touch_and_gaps_do_not() -> None:
    mask = parse(
        """
        #..##
        .#...
        ...#.
        """
    )
    assert len(find(mask)) == 3


def test_a_spiral_and_a_comb_are_one_each() -> None:
    spiral = parse(
        """
        #######
        #.....#
        #.###.#
        #.#.#.#
        #.#...#
        #.#####
        """
    )
    comb = parse(
        """
        #.#.#.#.#
        #.#.#.#.#
        #########
        """
    )
    assert len(find(spiral)) == 1
    assert len(find(comb)) == 1
    assert len(find(comb[::-1])) == 1


def test_the_edges_of_the_mask_do_not_touch_each_other() -> None:
    mask = parse(
        """
        ...#
        #...
        """
    )
    assert len(find(mask)) == 2


def test_the_largest_comes_first_and_the_small_are_left_out() -> None:
    mask = parse(
        """
        ##......
        ##..####
        ....####
        ....####
        """
    )
    assert [len(points) for points in find(mask)] == [6, 4]
    assert len(find(mask, min_area=2)) == 1
    assert find(mask, min_area=7) == []


@pytest.mark.parametrize("filled", [False, True])
def test_nothing_and_everything(filled: bool) -> None:
    assert len(find(np.full((5, 7), filled))) == int(filled)


@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([0.2, 0.4, 0.5, 0.7]),
    st.integers(0, 2**32 - 1),
)
def test_the_same_as_by_flood_fill(height: int, width: int, density: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < density
    found = find(mask)
    expected = [outline(component) for component in flood(mask)]
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected))


def test_a_large_snake_is_one() -> None:
    """Labels have to travel along the whole of it."""
    mask = np.zeros((401, 300), np.bool_)
    mask[::2] = True
    mask[1::4, -1] = True
    mask[3::4, 0] = True
    assert len(find(mask)) == 1
