"""DetectObjects: the whole image squeezed into a square; boxes the graph has picked, cleaned of doubles and mapped back.

Source: CenterNet as published for TensorFlow.js (peaks are found inside the graph).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict

from services.vision.pipeline.box import has_area, rescale, suppress
from services.vision.pipeline.tensor import Floats, to_tensor

PREPROCESSING = "image-rgb-512-square/1"


class SquareConstants(BaseModel):
    """What the artifact says of its input and of its detections."""

    model_config = ConfigDict(frozen=True)

    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    score_threshold: float
    iou_threshold: float


@dataclass(frozen=True)
class FoundObject:
    """A label and a box x1, y1, x2, y2 in pixels of the upright image."""

    index: int
    label: str
    score: float
    box: tuple[float, float, float, float]


def prepare(image: Image.Image, constants: SquareConstants) -> Floats:
    """The whole image as FP32 [1, 3, side, side]; proportions are not kept, as the model was trained."""
    side = (constants.image_size, constants.image_size)
    return to_tensor(image.resize(side, Image.Resampling.BILINEAR), constants.mean, constants.std)


def pick(
    detections: Floats,
    labels: Sequence[str],
    constants: SquareConstants,
    *,
    width: int,
    height: int,
    min_score: float | None,
    max_results: int,
) -> list[FoundObject]:
    """The objects among rows of x1, y1, x2, y2, score, class [n, 6] in pixels of the square, best first.

    `width` and `height` are the upright image's; `min_score` None means the model's own threshold.
    """
    threshold = constants.score_threshold if min_score is None else min_score
    # NaN fails every comparison; infinity is caught by the first.
    rows = detections[np.isfinite(detections).all(axis=1)]
    rows = rows[rows[:, 4] >= threshold]
    boxes = rescale(rows[:, :4], width / constants.image_size, height / constants.image_size, width, height)
    whole = has_area(boxes) & (rows[:, 5] >= 0) & (rows[:, 5] < len(labels))
    rows, boxes = rows[whole], boxes[whole]
    classes = rows[:, 5].astype(np.intp)
    kept: list[int] = []
    for index in np.unique(classes):
        members = np.flatnonzero(classes == index)
        survivors = suppress(boxes[members], rows[members, 4], constants.iou_threshold, limit=max_results)
        kept.extend(members[survivors].tolist())
    kept.sort(key=lambda row: (-float(rows[row, 4]), row))
    return [
        FoundObject(
            index=int(classes[row]),
            label=labels[classes[row]],
            score=min(float(rows[row, 4]), 1.0),
            box=(float(boxes[row, 0]), float(boxes[row, 1]), float(boxes[row, 2]), float(boxes[row, 3])),
        )
        for row in kept[:max_results]
    ]
