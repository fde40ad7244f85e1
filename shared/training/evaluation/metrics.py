"""What a classifier got right: overall, by class, and whether its scores mean what they say.

Lives here: figures of labels against probabilities or answers. Not here: their intervals of other kinds (`interval.py`),
comparisons (`paired.py`), parts of the items (`slices.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.inference.manifest import Metric
from shared.training.evaluation.interval import Interval, bootstrap, standard_error, wilson

BINS = 15  # of the calibration error, as Guo et al. 2017 (On Calibration of Modern Neural Networks) count it


@dataclass(frozen=True)
class ClassMetrics:
    """One class: how many of its items were found, and how many that were called so are."""

    label: str
    support: int  # items of it
    precision: float  # 0 where nothing was called so
    recall: float
    f1: float


@dataclass(frozen=True)
class Metrics:
    """Figures of one model on one set of items."""

    items: int
    accuracy: Interval
    standard_error: float  # of the accuracy
    macro_f1: float
    per_class: tuple[ClassMetrics, ...]
    confusion: NDArray[np.int64]  # [true label, answer]
    ece: float | None  # expected calibration error; None where there are no probabilities
    nll: float | None  # mean negative log likelihood, nats
    correct: NDArray[np.bool_]  # by item, for paired tests

    def to_manifest(self, *, rounds: int = 200) -> dict[str, Metric]:
        """`accuracy` and `macro_f1` with their intervals, as the manifest's `quality.metrics` holds them."""
        truth = np.repeat(np.arange(len(self.confusion)), self.confusion.sum(1))
        answers = np.concatenate([np.repeat(np.arange(len(row)), row) for row in self.confusion])
        classes = len(self.confusion)
        f1 = bootstrap(
            lambda drawn: _macro_f1(count_confusion(truth[drawn], answers[drawn], classes)),
            self.items,
            rounds=rounds,
        )
        return {
            "accuracy": self.accuracy.to_metric(),
            "macro_f1": Interval(self.macro_f1, f1.low, f1.high).to_metric(),
        }


def measure(truth: NDArray[Any], scores: NDArray[Any], labels: Sequence[str]) -> Metrics:
    """Measure answers on items.

    truth: int [items]; scores: probabilities float [items, labels], or answers int [items]; labels: names.

    Raises:
        ValueError: lengths do not fit, or a label is out of range.
    """
    truth = np.asarray(truth, np.int64)
    scores = np.asarray(scores)
    probabilities = scores.astype(np.float64) if scores.ndim == 2 else None
    answers = scores.argmax(1) if scores.ndim == 2 else scores.astype(np.int64)
    if truth.shape != answers.shape or not len(truth):
        raise ValueError(f"expected one answer per item and an item, got {len(truth)} and {len(answers)}")
    if probabilities is not None and probabilities.shape[1] != len(labels):
        raise ValueError(f"scores: expected {len(labels)} columns, got {probabilities.shape[1]}")
    if max(truth.max(), answers.max()) >= len(labels) or min(truth.min(), answers.min()) < 0:
        raise ValueError(f"labels: expected 0 to {len(labels) - 1} everywhere")
    confusion = count_confusion(truth, answers, len(labels))
    correct = truth == answers
    return Metrics(
        items=len(truth),
        accuracy=wilson(int(correct.sum()), len(truth)),
        standard_error=standard_error(correct),
        macro_f1=_macro_f1(confusion),
        per_class=tuple(
            ClassMetrics(label, int(confusion[index].sum()), *_class_figures(confusion, index))
            for index, label in enumerate(labels)
        ),
        confusion=confusion,
        ece=None if probabilities is None else calibration_error(truth, probabilities),
        nll=None if probabilities is None else log_loss(truth, probabilities),
        correct=correct,
    )


def count_confusion(truth: NDArray[Any], answers: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Items by true label and answer, int64 [classes, classes]."""
    return np.bincount(truth * classes + answers, minlength=classes * classes).reshape(classes, classes)


def calibration_error(truth: NDArray[Any], probabilities: NDArray[Any], *, bins: int = BINS) -> float:
    """Expected calibration error: mean distance of accuracy and confidence over bins of equal width, weighted by items."""
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == truth
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    right = np.bincount(place, weights=correct, minlength=bins)
    sure = np.bincount(place, weights=confidence, minlength=bins)
    return float(np.abs(right - sure).sum() / count.sum())


def log_loss(truth: NDArray[Any], probabilities: NDArray[Any]) -> float:
    """Mean negative logarithm of the true label's probability, in nats."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(truth)), truth], 1e-12)).mean())


def _class_figures(confusion: NDArray[np.int64], index: int) -> tuple[float, float, float]:
    hits, called, there = confusion[index, index], confusion[:, index].sum(), confusion[index].sum()
    return (
        float(hits / called) if called else 0.0,
        float(hits / there) if there else 0.0,
        float(2 * hits / (called + there)) if called + there else 0.0,
    )


def _macro_f1(confusion: NDArray[np.int64]) -> float:
    """Mean F1 over the classes that have items."""
    there = np.flatnonzero(confusion.sum(1))
    return float(np.mean([_class_figures(confusion, index)[2] for index in there]))
