"""The rectangle of least area, growing it, and the order of corners."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.vision.pipeline.text.rectangle import Rectangle, convex_hull, enclose, reading_corners


def rotate(points: np.ndarray, degrees: float) -> np.ndarray:
    angle = math.radians(degrees)
    return points @ np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


@pytest.mark.parametrize("degrees", [0, 7, 30, 45, 90, 100, 179])
def test_a_turned_rectangle_is_found_as_it_is(degrees: float) -> None:
    grid = np.array([(x, y) for x in range(0, 41, 2) for y in range(0, 11, 2)], float)
    rectangle = enclose(rotate(grid, degrees))
    assert sorted(rectangle.size) == pytest.approx([10, 40])
    assert rectangle.shorter == pytest.approx(10)
    assert rectangle.center == pytest.approx(tuple(rotate(np.array([[20.0, 5.0]]), degrees)[0]))


def test_corners_are_clockwise_on_the_screen_and_on_the_points() -> None:
    rectangle = enclose(np.array([(0, 0), (10, 0), (10, 4), (0, 4), (5, 2)], float))
    corners = rectangle.corners()
    assert sorted(map(tuple, corners.round(6).tolist())) == [(0, 0), (0, 4), (10, 0), (10, 4)]
    first, second = corners[1] - corners[0], corners[2] - corners[1]
    assert first[0] * second[1] - first[1] * second[0] > 0


def test_growing_moves_every_side() -> None:
    grown = Rectangle((5, 5), (1, 0), (4, 2)).grown(1.5)
    assert grown == Rectangle((5, 5), (1, 0), (7, 5))


def test_points_on_a_line_and_a_single_one() -> None:
    line = enclose(np.array([(0, 0), (3, 3), (6, 6)], float))
    assert sorted(line.size) == pytest.approx([0, math.hypot(6, 6)])
    assert enclose(np.array([(3, 4), (3, 4)], float)) == Rectangle((3, 4), (1, 0), (0, 0))


points = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=30)


@given(points)
def test_every_point_lies_inside_and_no_direction_gives_less(drawn: list[tuple[int, int]]) -> None:
    cloud = np.array(drawn, float)
    rectangle = enclose(cloud)
    along = np.array(rectangle.axis)
    across = np.array([-along[1], along[0]])
    away = cloud - rectangle.center
    assert (np.abs(away @ along) <= rectangle.size[0] / 2 + 1e-6).all()
    assert (np.abs(away @ across) <= rectangle.size[1] / 2 + 1e-6).all()
    area = rectangle.size[0] * rectangle.size[1]
    for degrees in range(0, 90, 3):
        turned = rotate(cloud, degrees)
        assert area <= np.prod(np.ptp(turned, axis=0)) + 1e-6


@given(points)
def test_the_hull_holds_every_point_and_turns_one_way(drawn: list[tuple[int, int]]) -> None:
    hull = convex_hull(np.array(drawn, float))
    assert set(map(tuple, hull.tolist())) <= {(float(x), float(y)) for x, y in drawn}
    if len(hull) < 3:
        return
    sides = np.roll(hull, -1, axis=0) - hull
    following = np.roll(sides, -1, axis=0)
    assert (sides[:, 0] * following[:, 1] - sides[:, 1] * following[:, 0] > 0).all()
    for x, y in drawn:
        to_point = np.array([x, y]) - hull
        assert (sides[:, 0] * to_point[:, 1] - sides[:, 1] * to_point[:, 0] >= 0).all()


@pytest.mark.parametrize("turn", range(4))
def test_corners_in_reading_order(turn: int) -> None:
    skewed = np.array([(0, 3), (20, 0), (21, 8), (1, 11)], float)
    assert reading_corners(np.roll(skewed, turn, axis=0)).tolist() == skewed.tolist()
