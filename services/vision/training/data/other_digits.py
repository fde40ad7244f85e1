"""Digits that are not MNIST's, and MNIST's made harder: what a served model meets, and the card's slices.

Scikit-learn's 1,797 digits come from another collection (43 writers, UCI's optical recognition set, 8 x 8); printed ones are
drawn with the fonts inside matplotlib, so both come with the training environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from services.vision.training.data.digits import Digits, prepare_digits
from services.vision.training.data.mnist import DIGITS
from services.vision.training.data.pictures import Pictures

# Each 8 x 8 picture becomes a drawing of 64 x 64, as a scan of it would be.
_ENLARGED = 64
# Text faces of matplotlib's folder: sans, serif and mono, upright, bold and slanted. Its mathematical ones are left out.
FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique",
    "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic",
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta", "cmr10", "cmss10", "cmtt10", "cmb10",
)  # fmt: skip
# Pixels; dark on light for one, light on dark for the other.
_HEIGHTS = (24, 90)


def read_optical(limit: int | None = None) -> Digits:
    """Scikit-learn's digits, drawn larger; `limit`: only the first so many."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    # 17 values, 0 to 16, of ink.
    small = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    pixels = np.stack(
        [
            np.asarray(
                Image.fromarray(picture).resize((_ENLARGED, _ENLARGED), Image.Resampling.BICUBIC), np.uint8
            )
            for picture in small[:limit]
        ]
    )
    labels = bunch.target[:limit].astype(np.int64)
    return prepare_digits(Pictures(pixels, labels, DIGITS, Path("sklearn.datasets.load_digits")))


def draw_printed(names: Sequence[str] = FONTS) -> tuple[Digits, NDArray[np.str_]]:
    """Ten digits in each font and two sizes; beside them each one's font."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    pixels, labels, fonts = [], [], []
    side = 2 * max(_HEIGHTS)
    for name in names:
        for height in _HEIGHTS:
            font = ImageFont.truetype(folder / f"{name}.ttf", height)
            ink, ground = (0, 255) if height == _HEIGHTS[0] else (255, 0)
            for label, digit in enumerate(DIGITS):
                image = Image.new("L", (side, side), ground)
                ImageDraw.Draw(image).text((side // 2, side // 2), digit, ink, font, anchor="mm")
                pixels.append(np.asarray(image))
                labels.append(label)
                fonts.append(name)
    pictures = Pictures(np.stack(pixels), np.array(labels, np.int64), DIGITS, folder)
    return prepare_digits(pictures), np.array(fonts)


def turn(pictures: Pictures, degrees: float) -> Digits:
    """The pictures turned, counterclockwise."""
    return _change(
        pictures, lambda image, _index: image.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    )


def add_noise(pictures: Pictures, strength: float) -> Digits:
    """The pictures with Gaussian noise of that standard deviation, of 255, on a grey ground that it can darken."""

    def change(image: Image.Image, index: int) -> Image.Image:
        rng = np.random.default_rng(index)
        values = 40 + np.asarray(image, np.float32) * (175 / 255)
        return Image.fromarray((values + rng.normal(0, strength, values.shape)).clip(0, 255).astype(np.uint8))

    return _change(pictures, change)


def shrink(pictures: Pictures, side: int) -> Digits:
    """The pictures as they would have been taken with so few pixels a side."""
    return _change(pictures, lambda image, _index: image.resize((side, side), Image.Resampling.BOX))


def measure_slant(pictures: Pictures) -> NDArray[np.float64]:
    """How far each digit leans, in pixels to the right per pixel up, by its moments; below 0 it leans to the left."""
    rows, columns = np.mgrid[0 : pictures.pixels.shape[1], 0 : pictures.pixels.shape[2]].astype(np.float64)
    ink = pictures.pixels.astype(np.float64)
    mass = ink.sum(axis=(1, 2))
    down, across = ((ink * grid).sum(axis=(1, 2)) / mass for grid in (rows, columns))
    height, width = rows[None] - down[:, None, None], columns[None] - across[:, None, None]
    spread = (ink * height**2).sum(axis=(1, 2))
    slant: NDArray[np.float64] = -(ink * height * width).sum(axis=(1, 2)) / np.maximum(spread, 1e-9)
    return slant


def measure_ink(pictures: Pictures) -> NDArray[np.float64]:
    """The share of each picture that is ink: thin pens and bold ones."""
    share: NDArray[np.float64] = (pictures.pixels > 127).mean(axis=(1, 2))
    return share


def _change(pictures: Pictures, change: object) -> Digits:
    changed = [change(Image.fromarray(pixels), index) for index, pixels in enumerate(pictures.pixels)]
    # Turned pictures need more room than others; every one gets the largest's.
    side = max(max(image.size) for image in changed)
    pixels = np.zeros((len(changed), side, side), np.uint8)
    for index, image in enumerate(changed):
        values = np.asarray(image)
        top, left = (side - values.shape[0]) // 2, (side - values.shape[1]) // 2
        pixels[index] = int(np.median(values[0]))
        pixels[index, top : top + values.shape[0], left : left + values.shape[1]] = values
    return prepare_digits(
        Pictures(pixels, pictures.labels, pictures.classes, pictures.origin, pictures.names)
    )
