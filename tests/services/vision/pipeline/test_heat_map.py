"""Heat maps: a PNG of the picture's proportions, red for, blue against."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from services.vision.pipeline.heat_map import render_heat_map

GREY = Image.new("RGB", (40, 20), (128, 128, 128))


def draw(attributions: list[list[float]], width: int = 400, height: int = 200) -> Image.Image:
    content = render_heat_map(GREY, width, height, np.array(attributions))
    image = Image.open(BytesIO(content))
    assert image.format == "PNG"
    return image


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [(400, 200, (512, 256)), (28, 28, (512, 512)), (3000, 4000, (384, 512)), (5000, 2, (512, 1))],
)
def test_proportions(width: int, height: int, size: tuple[int, int]) -> None:
    assert draw([[0.0]], width, height).size == size


def test_red_speaks_for_and_blue_against() -> None:
    image = draw([[0.5, 0.0, -0.25]])
    red, none, blue = (image.getpixel((x, 128)) for x in (40, 256, 470))
    assert red[0] > red[2] + 60
    assert blue[2] > blue[0] + 20
    assert max(none) - min(none) < 25


def test_of_two_equal_scales_the_picture_is_the_same() -> None:
    assert draw([[2.0, -1.0]]).tobytes() == draw([[0.002, -0.001]]).tobytes()


def test_without_attributions_it_is_grey() -> None:
    pixels = np.asarray(draw([[0.0, 0.0]]))
    assert np.ptp(pixels, axis=2).max() == 0
