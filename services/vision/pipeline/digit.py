"""One digit in a picture of any size, dark on light or light on dark, as MNIST shows it: light ink on dark, 20 pixels
high or wide, its centre of mass in the middle of 28 x 28.

Source of the form: the description that accompanies the MNIST database (LeCun, Cortes, Burges). Training and serving
both come through here. Not here: decoding (`decode`), probabilities (`classification`).
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from pydantic import BaseModel, ConfigDict, Field

from services.vision.pipeline.tensor import Floats
from services.vision.pipeline.text.component import find_outlines

PREPROCESSING = "image-gray-28/1"
SIDE = 28
BOX = 20
# The longer side at which ink is looked for: enough to tell a stroke of a pen on a page held by one digit.
SEARCH_SIDE = 256
# The longer side of the digit when thin strokes are thickened: 4 pixels for each of the final 20.
STROKE_SIDE = 80
# Ink that differs by less from its ground, of 255, is no ink: sensor noise and JPEG blocks reach 10.
LEAST_CONTRAST = 16.0
# Strokes thinner than this share of the digit's longer side would fade on the way to 20 pixels; MNIST's have 1.5 to 4.
LEAST_STROKE = 1.6 / BOX
# One pixel in so many may be a spark; a digit a twentieth as high as its picture has more.
FEW = 3000
# Of the ink's strength: what counts as part of the digit when its box is drawn.
EDGE = 0.25
# A blot is part of the digit if it is at least so long, measured by the longest one: the bar of a 5 is, dust is not.
LEAST_PART = 0.2


class DigitConstants(BaseModel):
    """What the artifact says besides the preprocessing's name: the classes, in the order of the logits."""

    model_config = ConfigDict(frozen=True)

    labels: tuple[str, ...] = Field(min_length=2)


class BlankError(ValueError):
    """A picture without ink; the text says what was found instead of a digit."""


def fit(width: int, height: int) -> tuple[int, int]:
    """The size, in pixels, to which a larger picture is shrunk before ink is looked for; never enlarged."""
    scale = min(1.0, SEARCH_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def prepare(image: Image.Image) -> Floats:
    """An upright image as FP32 [1, 1, 28, 28], ink 0..1 on 0.

    Raises:
        BlankError: the picture is of one tone, or nearly.
    """
    gray = image.convert("L")
    size = fit(*gray.size)
    if size != gray.size:
        gray = gray.resize(size, Image.Resampling.BICUBIC)
    ink = find_ink(np.asarray(gray, dtype=np.float32))
    return place(_shrink(_cut_out(ink)))[None, None]


def find_ink(gray: Floats) -> Floats:
    """How much ink is on each pixel, 0..1, of a picture [height, width] of 0..255.

    The ground is a plane laid through the picture's border, so that light falling from one side is no ink; what
    differs from it more strongly, in sum of squares, is ink, be it darker or lighter.

    Raises:
        BlankError: nothing differs enough.
    """
    difference = gray - _lay_ground(gray)
    lighter, darker = np.maximum(difference, 0), np.maximum(-difference, 0)
    ink = lighter if float(np.square(lighter).sum()) >= float(np.square(darker).sum()) else darker
    # Of few pixels the strongest is the pen's; of many the strongest is a spark of noise.
    rank = max(1, ink.size // FEW)
    strength = float(np.partition(ink, -rank, axis=None)[-rank])
    if strength < LEAST_CONTRAST:
        raise BlankError(f"a picture of one tone (contrast {strength:.0f} of 255)")
    noise = 3 * float(np.median(np.abs(_border(difference))))
    # Half the strength at most: a border full of ink is no noise.
    ink[ink < min(noise, strength / 2)] = 0
    full: Floats = np.minimum(ink / np.float32(strength), np.float32(1))
    return full


def _border(picture: Floats) -> Floats:
    """The pixels along the four sides, a fourteenth of the shorter side deep."""
    depth = max(1, min(picture.shape) // 14)
    inside = picture[depth:-depth, depth:-depth] if min(picture.shape) > 2 * depth else picture[:0]
    if inside.size == 0:
        return picture.ravel()
    sides = (picture[:depth], picture[-depth:], picture[depth:-depth, :depth], picture[depth:-depth, -depth:])
    return np.concatenate([side.ravel() for side in sides])


def _lay_ground(gray: Floats) -> Floats:
    """The plane [height, width] through the border's pixels; those that are ink are left out of it."""
    values = _border(gray).astype(np.float64)
    if values.min() == values.max():
        return np.full_like(gray, values[0])
    height, width = gray.shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    down, across = rows / max(1, height - 1) - 0.5, columns / max(1, width - 1) - 0.5
    ones = np.ones_like(values)
    design = np.stack([ones, _border(down), _border(across)], axis=1)
    plane = np.array([np.median(values), 0.0, 0.0])
    for _ in range(3):
        distance = np.abs(values - design @ plane)
        # Twice the median distance keeps the ground's own noise, the floor a ground without any.
        near = distance <= max(2 * float(np.median(distance)), LEAST_CONTRAST / 2)
        if near.sum() < values.size // 2:
            break
        plane = np.linalg.lstsq(design[near], values[near], rcond=None)[0]
    ground: Floats = (plane[0] + plane[1] * down + plane[2] * across).astype(np.float32)
    return ground


def _cut_out(ink: Floats) -> Floats:
    """The part [height, width] that holds the digit: its blots' common box, dust outside left away."""
    outlines = find_outlines(ink >= EDGE, min_area=0)
    corners = np.array([[*points.min(axis=0), *points.max(axis=0)] for points in outlines], np.intp)
    lengths = (corners[:, 2:] - corners[:, :2]).max(axis=1) + 1
    parts = corners[lengths >= LEAST_PART * lengths.max()]
    left, top = parts[:, :2].min(axis=0)
    right, bottom = parts[:, 2:].max(axis=0) + 1
    return ink[top:bottom, left:right]


def _shrink(ink: Floats) -> Floats:
    """The digit with its longer side at 20 pixels, its strokes thick enough to last, its strongest ink at 1."""
    height, width = ink.shape
    picture = Image.fromarray(ink)
    longer = max(height, width)
    if longer > STROKE_SIDE:
        picture = _resize(picture, STROKE_SIDE)
        longer = STROKE_SIDE
    strokes = np.asarray(picture)
    missing = LEAST_STROKE * longer - _measure_stroke(strokes)
    if longer > BOX and (reach := round(missing / 2)) > 0:
        spread = Image.fromarray((strokes * 255).astype(np.uint8)).filter(
            ImageFilter.MaxFilter(2 * reach + 1)
        )
        picture = Image.fromarray(np.asarray(spread, dtype=np.float32) / 255)
    small: Floats = np.clip(np.asarray(_resize(picture, BOX)), 0, 1)
    small /= np.float32(max(float(small.max()), 1e-6))
    return small


def _resize(picture: Image.Image, longer: int) -> Image.Image:
    """The picture with its longer side at so many pixels, proportions kept, no side below 1."""
    scale = longer / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.BICUBIC)


def _measure_stroke(ink: Floats) -> float:
    """The strokes' mean thickness in pixels: twice the area by the length of the outline."""
    mask = np.pad(ink >= 0.5 * ink.max(), 1)
    steps = np.count_nonzero(mask[1:] != mask[:-1]) + np.count_nonzero(mask[:, 1:] != mask[:, :-1])
    # A staircase is longer than the line it stands for, by 4 / pi over all directions.
    return 2 * np.count_nonzero(mask) / (steps * np.pi / 4)


def place(digit: Floats) -> NDArray[np.float32]:
    """A digit [<= 20, <= 20] on 28 x 28, moved by whole pixels so that its centre of mass is in the middle."""
    height, width = digit.shape
    mass = max(float(digit.sum()), 1e-6)
    down = float(digit.sum(axis=1) @ np.arange(height)) / mass
    across = float(digit.sum(axis=0) @ np.arange(width)) / mass
    middle = (SIDE - 1) / 2
    top = min(max(round(middle - down), 0), SIDE - height)
    left = min(max(round(middle - across), 0), SIDE - width)
    placed = np.zeros((SIDE, SIDE), np.float32)
    placed[top : top + height, left : left + width] = digit
    return placed
