"""DetectFaces: the image at a size of whole strides; faces out of four maps, with five landmarks each.

Source: CenterFace (Xu et al., 2019) and its published decoder.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict

from services.vision.pipeline.box import has_area, suppress
from services.vision.pipeline.tensor import Floats, to_tensor

PREPROCESSING = "image-rgb-stride32/1"

# Suppression compares every face with every better one; a low threshold asked for by a client must not make that
# the whole map. Far more than fit on an image of the model's largest side.
MAX_CANDIDATES = 1000

LANDMARKS = 5


class FaceConstants(BaseModel):
    """What the artifact says of its input and its maps."""

    model_config = ConfigDict(frozen=True)

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    max_side: int
    stride: int
    cell: int
    score_threshold: float
    iou_threshold: float


@dataclass(frozen=True)
class FoundFace:
    """A box x1, y1, x2, y2 and five points x, y in pixels of the upright image.

    The points are the eye on the left of the image, the eye on the right, the nose, the corner of the mouth on the left
    of the image, the one on the right.
    """

    score: float
    box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...]


def fit(width: int, height: int, constants: FaceConstants) -> tuple[int, int]:
    """The size the model sees: longer side at most `max_side`, then each side up to a whole number of strides."""
    shrink = min(1.0, constants.max_side / max(width, height))

    def whole(side: int) -> int:
        strides = -(-round(side * shrink) // constants.stride)
        return max(1, strides) * constants.stride

    return whole(width), whole(height)


def prepare(image: Image.Image, size: tuple[int, int], constants: FaceConstants) -> Floats:
    """The image resized to `size` (width, height) as FP32 [1, 3, height, width]."""
    return to_tensor(image.resize(size, Image.Resampling.BILINEAR), constants.mean, constants.std)


def pick(
    heatmap: Floats,
    scale: Floats,
    offset: Floats,
    landmarks: Floats,
    constants: FaceConstants,
    *,
    width: int,
    height: int,
    min_score: float | None,
    max_results: int,
) -> list[FoundFace]:
    """The faces, best first, out of the maps of one image: [1, h, w], [2, h, w], [2, h, w] and [10, h, w].

    `width` and `height` are the upright image's; `min_score` None means the model's own threshold.
    """
    cell = constants.cell
    seen_height, seen_width = heatmap.shape[1] * cell, heatmap.shape[2] * cell
    threshold = constants.score_threshold if min_score is None else min_score
    rows, columns = np.nonzero(heatmap[0] > threshold if min_score is None else heatmap[0] >= threshold)
    scores = heatmap[0, rows, columns]
    if scores.size > MAX_CANDIDATES:
        best = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
        rows, columns, scores = rows[best], columns[best], scores[best]
    high, wide = np.exp(scale[:, rows, columns]) * cell
    down, across = offset[:, rows, columns]
    left = np.clip((columns + across + 0.5) * cell - wide / 2, 0, seen_width)
    top = np.clip((rows + down + 0.5) * cell - high / 2, 0, seen_height)
    right, bottom = np.minimum(left + wide, seen_width), np.minimum(top + high, seen_height)
    boxes = np.stack([left, top, right, bottom], axis=1).astype(np.float32)
    points = landmarks[:, rows, columns].reshape(LANDMARKS, 2, -1)  # y, x of each, in sizes of the box
    xs = points[:, 1] * wide + left
    ys = points[:, 0] * high + top
    whole = np.flatnonzero(
        np.isfinite(boxes).all(axis=1) & has_area(boxes) & np.isfinite(xs + ys).all(axis=0)
    )
    kept = whole[suppress(boxes[whole], scores[whole], constants.iou_threshold, limit=max_results)]
    back_x, back_y = width / seen_width, height / seen_height
    faces = []
    for face in kept:
        x1, y1, x2, y2 = (float(edge) for edge in boxes[face])
        faces.append(
            FoundFace(
                score=min(float(scores[face]), 1.0),
                box=(x1 * back_x, y1 * back_y, x2 * back_x, y2 * back_y),
                landmarks=tuple(
                    (
                        min(max(float(xs[mark, face]) * back_x, 0.0), float(width)),
                        min(max(float(ys[mark, face]) * back_y, 0.0), float(height)),
                    )
                    for mark in range(LANDMARKS)
                ),
            )
        )
    return faces
