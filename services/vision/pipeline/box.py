"""Boxes as rows of x1, y1, x2, y2 in pixels: overlap, suppression, clipping. What every detector shares."""

import numpy as np
from numpy.typing import NDArray

from services.vision.pipeline.tensor import Floats

Indices = NDArray[np.intp]


def overlaps(box: Floats, others: Floats) -> Floats:
    """Intersection over union of one box [4] with each of [n, 4]; 0 where both are empty."""
    width = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    height = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    common = np.maximum(width, 0) * np.maximum(height, 0)
    area = (box[2] - box[0]) * (box[3] - box[1])
    areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    union = area + areas - common
    ratio: Floats = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return ratio


def suppress(boxes: Floats, scores: Floats, iou_threshold: float, *, limit: int) -> Indices:
    """Greedy non-maximum suppression of [n, 4] by scores [n]: the indices kept, best first, at most `limit`.

    A box goes when it overlaps a better one by more than `iou_threshold`; of equal scores the earlier row is better.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size and len(kept) < limit:
        leader = order[0]
        kept.append(int(leader))
        rest = order[1:]
        order = rest[overlaps(boxes[leader], boxes[rest]) <= iou_threshold]
    return np.array(kept, dtype=np.intp)


def rescale(boxes: Floats, across: float, down: float, width: int, height: int) -> Floats:
    """Boxes [n, 4] times (`across`, `down`), clipped to an image of `width` x `height` pixels."""
    scaled = boxes * np.array([across, down, across, down], np.float32)
    return np.clip(scaled, 0, np.array([width, height, width, height], np.float32))


def has_area(boxes: Floats) -> NDArray[np.bool_]:
    """Which of [n, 4] are wider and higher than nothing."""
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
