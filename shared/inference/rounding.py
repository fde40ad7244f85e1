"""Weights as whole numbers of eight bits with scales, for recipes and for exports that must give the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST = 127


def round_weights(
    values: NDArray[np.float32], axes: tuple[int, ...]
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers and scales, whose product is the weight: one scale for all that lies along `axes`, which stay.

    The largest becomes 127; zeros alone stay zeros.
    """
    scale = np.abs(values).max(axis=axes, keepdims=True).astype(np.float32) / np.float32(LARGEST)
    scale[scale == 0] = 1.0
    return np.clip(np.rint(values / scale), -LARGEST, LARGEST).astype(np.int8), scale
