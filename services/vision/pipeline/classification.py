"""ClassifyImage and EmbedImage: one crop of the middle, then class probabilities or a unit vector.

Source of the preprocessing: the model's published evaluation (bicubic, shorter side to the input size, centre crop).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict

from services.vision.pipeline.tensor import Floats, to_tensor

PREPROCESSING = "image-rgb-224/1"


class CropConstants(BaseModel):
    """What the artifact says of its input: the square's side in pixels, and per channel (0..255 - mean) / std."""

    model_config = ConfigDict(frozen=True)

    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class LabelScore:
    """A class and its probability."""

    index: int
    label: str
    score: float


def fit(width: int, height: int, constants: CropConstants) -> tuple[int, int]:
    """The size, in pixels, at which the shorter side is the model's and the proportions are kept."""
    return _scale(width, height, constants.image_size)


def crop(image: Image.Image, side: int) -> Image.Image:
    """The middle of an upright RGB image as a square of `side` pixels, the shorter side as long as the square's.

    Only the part that the crop keeps is resampled: the pixels are those of the whole resized, up to rounding.
    """
    width, height = image.size
    whole_width, whole_height = _scale(width, height, side)
    left, top = (whole_width - side) // 2, (whole_height - side) // 2
    across, down = width / whole_width, height / whole_height
    kept = (left * across, top * down, (left + side) * across, (top + side) * down)
    return image.resize((side, side), Image.Resampling.BICUBIC, box=kept)


def prepare(image: Image.Image, constants: CropConstants) -> Floats:
    """The middle of an upright RGB image as FP32 [1, 3, side, side]."""
    return to_tensor(crop(image, constants.image_size), constants.mean, constants.std)


def _scale(width: int, height: int, side: int) -> tuple[int, int]:
    if width <= height:
        return side, max(side, round(height * side / width))
    return max(side, round(width * side / height)), side


def softmax(logits: Floats) -> NDArray[np.float64]:
    """Probabilities of one row of logits [classes], computed in float64 so that they sum to 1 within 1e-12."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max()
    np.exp(shifted, out=shifted)
    shifted /= shifted.sum()
    return shifted


def best(logits: Floats, labels: Sequence[str], *, top_k: int, min_score: float) -> list[LabelScore]:
    """The `top_k` most probable classes of one row of logits [classes], best first, none below `min_score`.

    Equal probabilities keep the order of the classes.
    """
    probabilities = softmax(logits)
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    return [
        LabelScore(int(index), labels[index], float(probabilities[index]))
        for index in order
        if probabilities[index] >= min_score
    ]


def unit(embedding: Floats) -> Floats:
    """One row [size] scaled to length 1. All zeros, which no photograph gives, stay zeros."""
    length = float(np.linalg.norm(embedding.astype(np.float64)))
    return (embedding / np.float32(max(length, 1e-12))).astype(np.float32)


def read_labels(text: str) -> tuple[str, ...]:
    """One label per line; of several synonyms ("tabby, tabby cat") the first."""
    return tuple(line.partition(",")[0].strip() for line in text.splitlines())
