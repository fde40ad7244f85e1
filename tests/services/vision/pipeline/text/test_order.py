"""Reading order of pages that are upright, skewed, on their side or on their head."""

import math
import random

import numpy as np
import pytest

from services.vision.pipeline.text.order import reading_order


def line(x: float, y: float, width: float = 100, height: float = 20) -> np.ndarray:
    return np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], float)


PAGE = [
    line(10, 10),
    line(120, 14),  # the same row, a little lower
    line(10, 40, width=300),
    line(10, 70, width=50),
    line(70, 66, width=50),
    line(130, 71, width=50),
    line(10, 100, width=300),
]


@pytest.mark.parametrize("degrees", [0, 8, -8, 30, 90, 180, 186, 270, -100])
def test_the_order_does_not_depend_on_how_the_page_lies(degrees: float) -> None:
    angle = math.radians(degrees)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    turned = [corners @ turn for corners in PAGE]
    shuffled = list(range(len(PAGE)))
    random.Random(3).shuffle(shuffled)
    order = reading_order([turned[at] for at in shuffled])
    assert [shuffled[at] for at in order] == list(range(len(PAGE)))


def test_one_line_that_runs_across_does_not_turn_the_page() -> None:
    column = np.array([(400, 0), (400, 150), (380, 150), (380, 0)], float)
    order = [at for at in reading_order([column, *PAGE]) if at != 0]
    assert order == list(range(1, len(PAGE) + 1))


def test_nothing_and_a_point() -> None:
    assert reading_order([]) == []
    assert reading_order([np.zeros((4, 2))]) == [0]
