"""Lines cut out of a page of four colours, upright, sideways and turned."""

import math

import numpy as np
import pytest
from PIL import Image

from services.vision.pipeline.text.crop import cut
from tests.services.vision.picture import find_far_corners, make_scene


def place(scene: Image.Image, degrees: float) -> tuple[Image.Image, np.ndarray]:
    """A white page with the scene turned clockwise about the page's middle, and the scene's corners there."""
    page = Image.new("RGB", (300, 300), "white")
    page.paste(scene, (150 - scene.width // 2, 150 - scene.height // 2))
    page = page.rotate(-degrees, Image.Resampling.BICUBIC, fillcolor="white")
    angle = math.radians(degrees)
    along, down = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
    half_width, half_height = scene.width / 2, scene.height / 2
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return page, np.array([150 + x * half_width * along + y * half_height * down for x, y in signs])


def test_an_upright_line() -> None:
    page, corners = place(make_scene(120, 60), 0)
    line = cut(page, corners)
    assert line.image.size == (120, 60)
    assert np.array_equal(np.asarray(line.image), np.asarray(make_scene(120, 60)))
    assert line.corners.tolist() == corners.tolist()


@pytest.mark.parametrize("degrees", [-35, -12, 4, 20, 44])
def test_a_turned_line_is_straightened(degrees: float) -> None:
    page, corners = place(make_scene(120, 60), degrees)
    line = cut(page, np.round(corners))
    assert abs(line.image.width - 120) <= 2
    assert abs(line.image.height - 60) <= 2
    assert find_far_corners(line.image) == []


def test_a_column_is_turned_and_begins_at_its_top_right() -> None:
    page, corners = place(make_scene(60, 120), 0)
    line = cut(page, corners)
    assert line.image.size == (120, 60)
    upright = Image.fromarray(np.rot90(np.asarray(make_scene(60, 120))))
    assert np.array_equal(np.asarray(line.image), np.asarray(upright))
    assert line.corners.tolist() == [
        corners[1].tolist(),
        corners[2].tolist(),
        corners[3].tolist(),
        corners[0].tolist(),
    ]


def test_a_line_on_its_head_is_turned_and_begins_at_its_bottom_right() -> None:
    page, corners = place(make_scene(120, 60).transpose(Image.Transpose.ROTATE_180), 0)
    line = cut(page, corners).turned()
    assert find_far_corners(line.image) == []
    assert line.corners.tolist() == [
        corners[2].tolist(),
        corners[3].tolist(),
        corners[0].tolist(),
        corners[1].tolist(),
    ]


def test_a_box_without_extent_is_a_pixel() -> None:
    line = cut(Image.new("RGB", (10, 10)), np.array([(3, 3), (3, 3), (3, 3), (3, 3)], float))
    assert line.image.size == (1, 1)
