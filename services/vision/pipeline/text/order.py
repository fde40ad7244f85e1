"""Reading order: the rows of a page from top to bottom, in a row from left to right, as the page is read.

The page's own direction is that of most of its lines, so a page that is skewed, lies on its side or stands on its head is
read in the same order as an upright one.
"""

import math
from collections.abc import Sequence

import numpy as np

from services.vision.pipeline.text.rectangle import Points

# Lines stand in one row when their middles differ by less than this part of the lower one's height. The published order
# (10 pixels of difference) tears rows of large scans apart and joins those of small ones.
SAME_ROW = 0.5


def reading_order(lines: Sequence[Points]) -> list[int]:
    """The indices in reading order of lines given by corners [4, 2], clockwise in reading direction from their beginning."""
    if not lines:
        return []
    along = _page_direction(lines)
    across = np.array([-along[1], along[0]])
    middles = [float(line.mean(axis=0) @ across) for line in lines]
    heights = [float(np.hypot(*(line[3] - line[0]))) for line in lines]
    begins = [float((line @ along).min()) for line in lines]
    rows: list[list[int]] = []
    for index in sorted(range(len(lines)), key=lambda at: (middles[at], begins[at])):
        if rows:
            leader = rows[-1][0]
            if middles[index] - middles[leader] < SAME_ROW * min(heights[index], heights[leader]):
                rows[-1].append(index)
                continue
        rows.append([index])
    return [index for row in rows for index in sorted(row, key=lambda at: begins[at])]


def _page_direction(lines: Sequence[Points]) -> Points:
    """The unit vector along which most of the text runs: a long line says more than a short one."""
    ways = np.array([(line[1] - line[0]) + (line[2] - line[3]) for line in lines])
    lengths = np.hypot(ways[:, 0], ways[:, 1])
    quarters = np.round(np.arctan2(ways[:, 1], ways[:, 0]) / (math.pi / 2)).astype(np.intp) % 4
    votes = np.bincount(quarters, weights=lengths, minlength=4)
    total = ways[quarters == votes.argmax()].sum(axis=0)
    length = float(np.hypot(*total))
    return total / length if length > 0 else np.array([1.0, 0.0])
