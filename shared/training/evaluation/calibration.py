"""Scores that mean what they say: the temperature of a softmax, and how reliable each confidence is.

Lives here: fitting on held-out logits that are neither trained nor tested on, and the bins of a reliability plot. Not here:
putting the temperature into the graph (`export.fold_temperature`), the figure itself (`metrics.calibration_error`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Temperatures outside say that something else is wrong: logits of another network, labels in another order.
_COLDEST, _HOTTEST = 0.05, 20.0
_GOLDEN = (5**0.5 - 1) / 2


def softmax(logits: NDArray[Any], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities float64 [items, labels] of logits, divided by the temperature first."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled -= scaled.max(1, keepdims=True)
    weights = np.exp(scaled)
    return weights / weights.sum(1, keepdims=True)


def fit_temperature(logits: NDArray[Any], truth: NDArray[Any]) -> float:
    """The temperature that makes the true labels most likely (Guo et al. 2017): one number, answers do not change.

    logits: float [items, labels] of validation items; truth: int [items]. The likelihood has one summit in 1/T, which a
    golden-section search over log T finds to four places.
    """
    logits = np.asarray(logits, np.float64)
    rows = np.arange(len(logits))

    def cost(log_temperature: float) -> float:
        scaled = logits * np.exp(-log_temperature)
        top = scaled.max(1)
        return float((top + np.log(np.exp(scaled - top[:, None]).sum(1)) - scaled[rows, truth]).mean())

    low, high = np.log(_COLDEST), np.log(_HOTTEST)
    while high - low > 1e-5:
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if cost(left) <= cost(right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


@dataclass(frozen=True)
class Bin:
    """Items whose confidence lies in a range: how sure the model was, how often it was right."""

    low: float
    high: float
    items: int
    confidence: float
    accuracy: float


def reliability(truth: NDArray[Any], probabilities: NDArray[Any], *, bins: int = 10) -> list[Bin]:
    """Bins of equal width over the confidence, those without items left out."""
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == truth
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        Bin(
            index / bins,
            (index + 1) / bins,
            int(inside.sum()),
            float(confidence[inside].mean()),
            float(correct[inside].mean()),
        )
        for index in range(bins)
        if (inside := place == index).any()
    ]
