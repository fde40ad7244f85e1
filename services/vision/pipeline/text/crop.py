"""Lines cut out of a page, upright: perspective crop, a quarter turn for columns, a half turn for lines on their head."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from services.vision.pipeline.text.rectangle import Points

# A box this much higher than wide holds a line written sideways.
COLUMN_RATIO = 1.5


@dataclass(frozen=True)
class Line:
    """A line cut out of its page, and its corners [4, 2] there, clockwise in reading direction from where it begins."""

    image: Image.Image
    corners: Points

    def turned(self) -> "Line":
        """The same line read the other way up."""
        return Line(self.image.transpose(Image.Transpose.ROTATE_180), np.roll(self.corners, 2, axis=0))


def cut(page: Image.Image, box: Points) -> Line:
    """Cuts a box, given as top left, top right, bottom right, bottom left corner, out of an RGB page."""
    top_left, top_right, bottom_right, bottom_left = box
    width = max(1, int(max(_distance(top_left, top_right), _distance(bottom_left, bottom_right))))
    height = max(1, int(max(_distance(top_left, bottom_left), _distance(top_right, bottom_right))))
    if top_left[1] == top_right[1] and top_left[0] == bottom_left[0] and bottom_right[1] == bottom_left[1]:
        x, y = int(top_left[0]), int(top_left[1])
        image = page.crop((x, y, x + width, y + height))
    else:
        image = page.transform(
            (width, height),
            Image.Transform.PERSPECTIVE,
            _perspective(box, width, height),
            Image.Resampling.BICUBIC,
        )
    if height / width < COLUMN_RATIO:
        return Line(image, box)
    return Line(image.transpose(Image.Transpose.ROTATE_90), np.roll(box, -1, axis=0))


def _distance(one: Points, other: Points) -> float:
    return float(np.hypot(*(one - other)))


def _perspective(box: Points, width: int, height: int) -> tuple[float, ...]:
    """The eight coefficients that take a point of the crop to its place on the page, as Pillow wants them.

    x' = (a x + b y + c) / (g x + h y + 1), y' = (d x + e y + f) / (g x + h y + 1).
    """
    equations, places = [], []
    for (x, y), (page_x, page_y) in zip(
        ((0, 0), (width, 0), (width, height), (0, height)), box.tolist(), strict=True
    ):
        equations.append([x, y, 1, 0, 0, 0, -page_x * x, -page_x * y])
        equations.append([0, 0, 0, x, y, 1, -page_y * x, -page_y * y])
        places += [page_x, page_y]
    return tuple(np.linalg.solve(np.array(equations, float), np.array(places, float)).tolist())
