"""Rotated rectangles: the smallest around points, growing, corners in order. Coordinates are x, y; y points down."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Rectangle:
    """A rectangle: its centre, a unit vector along its first side, and the lengths of its first and second side."""

    center: tuple[float, float]
    axis: tuple[float, float]
    size: tuple[float, float]

    @property
    def shorter(self) -> float:
        """Length of the shorter side."""
        return min(self.size)

    def grown(self, distance: float) -> "Rectangle":
        """The rectangle with every side moved outwards by `distance`."""
        return Rectangle(self.center, self.axis, (self.size[0] + 2 * distance, self.size[1] + 2 * distance))

    def corners(self) -> Points:
        """The four corners [4, 2], clockwise on the screen from some corner."""
        center, along = np.array(self.center), np.array(self.axis)
        across = np.array([-along[1], along[0]])
        half_along, half_across = along * self.size[0] / 2, across * self.size[1] / 2
        return np.stack(
            [
                center - half_along - half_across,
                center + half_along - half_across,
                center + half_along + half_across,
                center - half_along + half_across,
            ]
        )


def enclose(points: Points) -> Rectangle:
    """The rectangle of least area around points [n, 2], n >= 1.

    One side of it lies on a side of the convex hull (Freeman and Shapira, 1975), so every side is tried.
    """
    hull = convex_hull(points)
    if len(hull) == 1:
        return Rectangle((float(hull[0, 0]), float(hull[0, 1])), (1.0, 0.0), (0.0, 0.0))
    sides = np.roll(hull, -1, axis=0) - hull
    along = sides / np.hypot(sides[:, 0], sides[:, 1])[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    u, v = hull @ along.T, hull @ across.T  # [points, directions]
    u_low, u_high, v_low, v_high = u.min(axis=0), u.max(axis=0), v.min(axis=0), v.max(axis=0)
    lengths, heights = u_high - u_low, v_high - v_low
    best = int(np.argmin(lengths * heights))
    center = along[best] * (u_low[best] + u_high[best]) / 2 + across[best] * (v_low[best] + v_high[best]) / 2
    return Rectangle(
        (float(center[0]), float(center[1])),
        (float(along[best, 0]), float(along[best, 1])),
        (float(lengths[best]), float(heights[best])),
    )


def convex_hull(points: Points) -> Points:
    """The corners of the convex hull of points [n, 2], in order around it (Andrew's monotone chain)."""
    ordered = sorted(set(map(tuple, points.tolist())))
    if len(ordered) <= 2:
        return np.array(ordered)
    chain: list[tuple[float, ...]] = []
    for way in (ordered, ordered[::-1]):
        floor = len(chain) + 1
        for point in way:
            while len(chain) > floor and not _turns(chain[-2], chain[-1], point):
                chain.pop()
            chain.append(point)
        chain.pop()  # the other way begins with it
    return np.array(chain)


def _turns(first: tuple[float, ...], second: tuple[float, ...], third: tuple[float, ...]) -> bool:
    """Whether going from the second point to the third turns to the same hand as the chain does."""
    return (second[0] - first[0]) * (third[1] - first[1]) > (second[1] - first[1]) * (third[0] - first[0])


def reading_corners(corners: Points) -> Points:
    """Corners [4, 2] as top left, top right, bottom right, bottom left: of the two leftmost the upper comes first."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    left, right = by_x[:2], by_x[2:]
    left, right = left[np.argsort(left[:, 1], kind="stable")], right[np.argsort(right[:, 1], kind="stable")]
    return np.stack([left[0], right[0], right[1], left[1]])
