"""From a cut out line to the inputs of the orienting and the reading graph, and from their outputs to a text.

Source: PP-OCRv4's pre- and postprocessing (CTC, Graves et al., 2006).
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.vision.pipeline.tensor import Floats, to_tensor

# Sizes in pixels that the graphs are made for.
HEIGHT = 48
ORIENT_WIDTH = 192
MIN_WIDTH = 320
# Lines are padded to the next multiple, always the same for the same line: a width of its own for each would leave
# nothing to batch, a batch-mate's width would let its answer depend on others.
WIDTH_STEP = 64
BLANK = 0


@dataclass(frozen=True)
class Reading:
    """A text and the mean probability of its characters, 0 where there are none."""

    text: str
    score: float


def orient_input(line: Image.Image, mean: float, std: float) -> Floats:
    """The middle of a line as FP32 [1, 3, 48, 192], BGR, padded with 0 on the right if the line is shorter.

    The published preprocessing squeezes the whole line into 192 pixels. On printed pages of 40 to 60 long lines that
    called 9 to 28 upright lines upside down, and missed 9 of 12 that were; the middle at its own proportions missed none.
    """
    kept = line.height * ORIENT_WIDTH / HEIGHT
    if line.width > kept:
        left = (line.width - kept) / 2
        line = line.crop((round(left), 0, round(left + kept), line.height))
    return _pad(line, min(ORIENT_WIDTH, natural_width(line)), ORIENT_WIDTH, mean, std)


def read_input(line: Image.Image, max_width: int, mean: float, std: float) -> Floats:
    """A line as FP32 [1, 3, 48, padded_width], BGR: squeezed if longer than `max_width`, padded with 0 on the right."""
    width = min(max_width, natural_width(line))
    return _pad(line, width, padded_width(line, max_width), mean, std)


def natural_width(line: Image.Image) -> int:
    """A line's width in pixels once it is 48 high."""
    return max(1, math.ceil(HEIGHT * line.width / line.height))


def padded_width(line: Image.Image, max_width: int) -> int:
    """The width in pixels of the reading graph's input for a line."""
    steps = math.ceil(natural_width(line) / WIDTH_STEP)
    return min(max_width, max(MIN_WIDTH, steps * WIDTH_STEP))


def _pad(line: Image.Image, width: int, full_width: int, mean: float, std: float) -> Floats:
    small = line.resize((width, HEIGHT), Image.Resampling.BILINEAR)
    tensor = np.zeros((1, 3, HEIGHT, full_width), np.float32)
    tensor[:, :, :, :width] = to_tensor(small, (mean * 255,) * 3, (std * 255,) * 3, bgr=True)
    return tensor


def is_upside_down(probabilities: Floats, threshold: float) -> bool:
    """Whether one row of the orienting graph [2] (upright, on its head) says to turn the line."""
    return bool(probabilities[1] > threshold)


def collapse(indices: NDArray[np.int64], scores: Floats, characters: Sequence[str]) -> Reading:
    """One row of the reading graph, best class [steps] and its probability [steps], to text (CTC, greedy).

    Of a run of equal classes the first step counts; blanks are dropped.
    """
    counts = indices != BLANK
    counts[1:] &= indices[1:] != indices[:-1]
    if not counts.any():
        return Reading("", 0.0)
    text = "".join(characters[index] for index in indices[counts])
    return Reading(text, min(float(scores[counts].mean(dtype=np.float64)), 1.0))


def read_characters(content: bytes) -> tuple[str, ...]:
    """The characters by class; class 0 is the blank. Raises ValueError if it is not a JSON list of strings."""
    characters = json.loads(content)
    if not isinstance(characters, list) or not all(isinstance(character, str) for character in characters):
        raise ValueError("characters: expected a JSON list of strings")
    return tuple(characters)
