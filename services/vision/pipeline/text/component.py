"""Connected components of a mask, as the outline points that a rectangle is laid around.

Runs of set pixels are found in one pass over the mask and joined with a union-find over whole arrays, so the cost follows
the number of runs, not that of pixels.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Indices = NDArray[np.intp]


def find_outlines(mask: NDArray[np.bool_], *, min_area: float) -> list[Points]:
    """The outline of every 8-connected component of `mask` [height, width], largest bounding box first.

    An outline is the leftmost and the rightmost pixel of each row, as x, y [n, 2]: it has the same convex hull as the
    component. Components whose bounding box, between pixel centres, is smaller than `min_area` are left out.
    """
    rows, starts, ends = _runs(mask)
    if rows.size == 0:
        return []
    labels = _join(rows, starts, ends, mask.shape[1])
    order = np.lexsort((starts, rows, labels))
    rows, starts, ends, labels = rows[order], starts[order], ends[order], labels[order]
    # One entry per component and row: its first and last pixel there.
    fresh = np.flatnonzero(np.diff(labels, prepend=-1) | np.diff(rows, prepend=-1))
    left, right = np.minimum.reduceat(starts, fresh), np.maximum.reduceat(ends, fresh)
    rows, labels = rows[fresh], labels[fresh]
    first = np.flatnonzero(np.diff(labels, prepend=-1))
    last = np.append(first[1:], labels.size)
    wide = np.maximum.reduceat(right, first) - np.minimum.reduceat(left, first)
    areas = wide * (rows[last - 1] - rows[first])
    chosen = np.flatnonzero(areas >= min_area)
    chosen = chosen[np.argsort(-areas[chosen], kind="stable")]
    return list(_outlines(rows, left, right, first[chosen], last[chosen]))


def _outlines(
    rows: Indices, left: Indices, right: Indices, first: Indices, last: Indices
) -> Iterator[Points]:
    for begin, end in zip(first.tolist(), last.tolist(), strict=True):
        points = np.empty((2, end - begin, 2))
        points[0, :, 0], points[1, :, 0] = left[begin:end], right[begin:end]
        points[:, :, 1] = rows[begin:end]
        yield points.reshape(-1, 2)


def _runs(mask: NDArray[np.bool_]) -> tuple[Indices, Indices, Indices]:
    """Row, first and last column of every horizontal run of set pixels, in reading order."""
    height, width = mask.shape
    # A clear column on each side ends every run in its own row.
    padded = np.zeros((height, width + 2), np.bool_)
    padded[:, 1:-1] = mask
    flat = padded.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    begins, ends = edges[::2], edges[1::2]
    rows, columns = np.divmod(begins, width + 2)
    return rows, columns, columns + (ends - begins) - 1


def _join(rows: Indices, starts: Indices, ends: Indices, width: int) -> Indices:
    """A label per run, equal where runs touch (also at a corner), directly or through others."""
    stride = width + 2
    begin_at, end_at = rows * stride + starts, rows * stride + ends
    # The runs of the row above that begin not later than one pixel after this run's end, and end not earlier than one
    # before its start, lie side by side in reading order.
    lowest = np.searchsorted(end_at, begin_at - stride - 1, side="left")
    beyond = np.searchsorted(begin_at, end_at - stride + 1, side="right")
    touching = np.maximum(beyond - lowest, 0)
    below = np.repeat(np.arange(rows.size), touching)
    within = np.arange(below.size) - np.repeat(np.cumsum(touching) - touching, touching)
    above = lowest[below] + within
    roots = np.arange(rows.size)
    while True:
        one, other = roots[below], roots[above]
        apart = one != other
        if not apart.any():
            return roots
        below, above, one, other = below[apart], above[apart], one[apart], other[apart]
        # The larger root is hung under the smaller; then every run is led to its root.
        np.minimum.at(roots, np.maximum(one, other), np.minimum(one, other))
        while True:
            higher = roots[roots]
            if np.array_equal(higher, roots):
                break
            roots = higher
