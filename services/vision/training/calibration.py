"""Making a network's scores mean what they say, by one number.

Source: Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks (2017).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Beyond these a network is wrong, not over- or underconfident.
_LEAST, _MOST, _STEPS = 0.2, 5.0, 200


def find_temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The number by which logits [n, classes] are divided so that the right labels [n] are likeliest."""
    wide = logits.astype(np.float64)
    rows = np.arange(len(labels))

    def measure(temperature: float) -> float:
        scaled = wide / temperature
        scaled -= scaled.max(axis=1, keepdims=True)
        return float((np.log(np.exp(scaled).sum(axis=1)) - scaled[rows, labels]).mean())

    return float(min(np.geomspace(_LEAST, _MOST, _STEPS), key=measure))
