"""Where text stands: the page at the size the detector wants, and boxes out of its map of probabilities.

Source: PP-OCRv4's pre- and postprocessing of differentiable binarisation (Liao et al., 2020), with rectangles throughout:
a grown rectangle's corners are known in closed form, so no polygon clipping is needed.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.vision.pipeline.tensor import Floats, to_tensor
from services.vision.pipeline.text.component import find_outlines
from services.vision.pipeline.text.constants import DetectConstants
from services.vision.pipeline.text.rectangle import Points, Rectangle, enclose, reading_corners

# The detector halves its input five times.
STRIDE = 32
# Sides, in pixels, below which a page is enlarged, and below which it is too flat to be seen without a margin.
MIN_PAGE_SIDE = 30
MAX_PAGE_RATIO = 8
# Sides, in pixels of the map, of the smallest text before and after growing; of the page, of the smallest box.
MIN_SIDE = 3
MIN_GROWN_SIDE = 5
MIN_BOX_SIDE = 3


@dataclass(frozen=True)
class Layout:
    """How a page is laid out for the detector, all in pixels.

    `size` is the page's width and height without its margin, `margin` the black rows added above and again below,
    `seen` the width and height of the detector's input.
    """

    size: tuple[int, int]
    margin: int
    seen: tuple[int, int]


def lay_out(width: int, height: int, constants: DetectConstants) -> Layout:
    """The layout for an image of `width` x `height` pixels."""
    wide, high = float(width), float(height)
    if max(wide, high) > constants.max_side:
        shrink = constants.max_side / max(wide, high)
        wide, high = wide * shrink, high * shrink
    if min(wide, high) < MIN_PAGE_SIDE:
        # Of a strip a pixel wide the longer side still must not pass the largest.
        enlarge = min(MIN_PAGE_SIDE / min(wide, high), constants.max_side / max(wide, high))
        wide, high = wide * enlarge, high * enlarge
    page = max(1, round(wide)), max(1, round(high))
    margin = 0
    if page[1] <= MIN_PAGE_SIDE or page[0] / page[1] > MAX_PAGE_RATIO:
        padded = int(max(page[0] / MAX_PAGE_RATIO, MIN_PAGE_SIDE)) * 2
        margin = max(0, (padded - page[1]) // 2)
    full = page[0], page[1] + 2 * margin
    enlarge = max(1.0, constants.min_side / min(full))
    enlarge = min(enlarge, max(1.0, constants.max_side / max(full)))
    seen_width, seen_height = (max(STRIDE, round(side * enlarge / STRIDE) * STRIDE) for side in full)
    return Layout(page, margin, (seen_width, seen_height))


def fit(width: int, height: int, constants: DetectConstants) -> tuple[int, int]:
    """The size, in pixels, of the page out of which lines are cut."""
    return lay_out(width, height, constants).size


def prepare(page: Image.Image, layout: Layout, mean: float, std: float) -> Floats:
    """A page of `layout.size` as FP32 [1, 3, seen height, seen width], BGR."""
    full = page
    if layout.margin:
        full = Image.new("RGB", (page.width, page.height + 2 * layout.margin))
        full.paste(page, (0, layout.margin))
    if full.size != layout.seen:
        full = full.resize(layout.seen, Image.Resampling.BILINEAR)
    return to_tensor(full, (mean * 255,) * 3, (std * 255,) * 3, bgr=True)


def find_boxes(probability: Floats, layout: Layout, constants: DetectConstants) -> list[Points]:
    """The boxes of lines in a map of text-ness [height, width], as corners [4, 2] in pixels of the page.

    Corners are whole numbers: top left, top right, bottom right, bottom left, as the box stands on the page.
    """
    mask = _dilate(probability > constants.threshold)
    page_width, page_height = layout.size
    across = page_width / probability.shape[1]
    down = (page_height + 2 * layout.margin) / probability.shape[0]
    limit = np.array([page_width - 1, page_height - 1])
    boxes = []
    for outline in find_outlines(mask, min_area=MIN_SIDE**2)[: constants.max_candidates]:
        rectangle = enclose(outline)
        if rectangle.shorter < MIN_SIDE or mean_inside(probability, rectangle) < constants.box_threshold:
            continue
        width, height = rectangle.size
        grown = rectangle.grown(width * height * constants.unclip_ratio / (2 * (width + height)))
        if grown.shorter < MIN_GROWN_SIDE:
            continue
        corners = np.round(grown.corners() * (across, down)) - (0, layout.margin)
        corners = reading_corners(np.clip(corners, 0, limit))
        wide, high = np.hypot(*(corners[1] - corners[0])), np.hypot(*(corners[3] - corners[0]))
        if int(wide) > MIN_BOX_SIDE and int(high) > MIN_BOX_SIDE:
            boxes.append(corners)
    return boxes


def _dilate(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Sets a pixel if it, its left, upper or upper left neighbour is set."""
    grown = mask.copy()
    grown[:, 1:] |= mask[:, :-1]
    grown[1:] |= grown[:-1].copy()
    return grown


def mean_inside(values: Floats, rectangle: Rectangle) -> float:
    """The mean of `values` [height, width] over the pixels whose centres lie in `rectangle` or on its edge."""
    corners = rectangle.corners()
    height, width = values.shape
    left, top = (max(0, math.floor(low)) for low in corners.min(axis=0))
    right, bottom = (math.ceil(high) for high in corners.max(axis=0))
    part = values[top : min(bottom, height - 1) + 1, left : min(right, width - 1) + 1]
    if 0.0 in rectangle.axis:
        return float(part.mean())
    x = np.arange(left, left + part.shape[1], dtype=np.float32) - rectangle.center[0]
    y = np.arange(top, top + part.shape[0], dtype=np.float32)[:, None] - rectangle.center[1]
    cos, sin = rectangle.axis
    # Half a pixel of slack, for the pixels that a drawn outline touches.
    inside = np.abs(x * cos + y * sin) <= rectangle.size[0] / 2 + 0.5
    inside &= np.abs(y * cos - x * sin) <= rectangle.size[1] / 2 + 0.5
    return float(part[inside].mean()) if inside.any() else 0.0
