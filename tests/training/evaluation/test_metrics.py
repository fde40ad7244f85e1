"""Figures agree with scikit-learn's, and with what can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference

from shared.training.evaluation.calibration import fit_temperature, reliability, softmax
from shared.training.evaluation.metrics import calibration_error, measure

LABELS = ("a", "b", "c", "d")


def draw(items: int = 600, sharpness: float = 2.0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, items)
    logits = rng.normal(0, 1, (items, 4))
    logits[np.arange(items), truth] += 1.0
    return truth, logits * sharpness


def test_they_agree_with_scikit_learn() -> None:
    truth, logits = draw()
    scores = softmax(logits)
    found, answers = measure(truth, scores, LABELS), scores.argmax(1)
    assert found.accuracy.value == pytest.approx(reference.accuracy_score(truth, answers))
    precision, recall, f1, support = reference.precision_recall_fscore_support(truth, answers)
    assert [part.precision for part in found.per_class] == pytest.approx(precision)
    assert [part.recall for part in found.per_class] == pytest.approx(recall)
    assert [part.f1 for part in found.per_class] == pytest.approx(f1)
    assert [part.support for part in found.per_class] == list(support)
    assert found.macro_f1 == pytest.approx(f1.mean())
    assert np.array_equal(found.confusion, reference.confusion_matrix(truth, answers))
    assert found.nll == pytest.approx(reference.log_loss(truth, scores))
    assert np.array_equal(found.correct, truth == answers)


def test_answers_without_scores_have_no_calibration() -> None:
    truth, logits = draw()
    found = measure(truth, logits.argmax(1), LABELS)
    assert found.ece is None
    assert found.nll is None
    assert found.accuracy == measure(truth, softmax(logits), LABELS).accuracy


def test_a_class_that_is_never_called_or_never_there_counts_as_zero() -> None:
    found = measure(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 0]), ("a", "b", "c"))
    assert [part.f1 for part in found.per_class] == pytest.approx([2 / 3, 0, 0])
    assert [part.support for part in found.per_class] == [2, 2, 0]
    assert found.macro_f1 == pytest.approx(1 / 3)


def test_the_calibration_error_of_two_bins_by_hand() -> None:
    # Confident .9 and right half the time; confident .6 and always right.
    scores = np.array([[0.9, 0.1]] * 4 + [[0.6, 0.4]] * 4)
    truth = np.array([0, 0, 1, 1, 0, 0, 0, 0])
    assert calibration_error(truth, scores, bins=10) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)
    bins = reliability(truth, scores)
    assert [(part.items, part.accuracy) for part in bins] == [(4, 1.0), (4, 0.5)]
    assert [part.confidence for part in bins] == pytest.approx([0.6, 0.9])


def test_for_the_manifest_each_figure_has_an_interval_around_it() -> None:
    truth, logits = draw()
    found = measure(truth, softmax(logits), LABELS).to_manifest()
    assert found.keys() == {"accuracy", "macro_f1"}
    for metric in found.values():
        assert metric.low < metric.value < metric.high


@pytest.mark.parametrize(
    ("truth", "scores", "reason"),
    [
        (np.array([0, 1]), np.array([0]), "one answer per item"),
        (np.array([0, 1]), np.eye(3)[:2], "scores: expected 4 columns, got 3"),
        (np.array([0, 4]), np.array([0, 1]), "expected 0 to 3"),
        (np.array([], int), np.array([], int), "and an item"),
    ],
)
def test_what_does_not_fit_is_told(
    truth: NDArray[np.int64], scores: NDArray[np.float64], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        measure(truth, scores, LABELS)


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 4.0])
def test_the_temperature_undoes_what_sharpened_the_logits(sharpness: float) -> None:
    rng = np.random.default_rng(1)
    honest = rng.normal(0, 2, (20_000, 4))
    scores = softmax(honest)
    truth = (rng.random((20_000, 1)) > scores.cumsum(1)).sum(1)
    temperature = fit_temperature(honest * sharpness, truth)
    assert temperature == pytest.approx(sharpness, rel=0.04)
    assert calibration_error(truth, softmax(honest * sharpness, temperature)) < 0.015


def test_the_temperature_is_the_least_of_the_likelihoods_cost() -> None:
    truth, logits = draw(sharpness=5.0)
    best = fit_temperature(logits, truth)

    def cost(temperature: float) -> float:
        return float(reference.log_loss(truth, softmax(logits, temperature)))

    assert cost(best) < min(cost(best * 1.05), cost(best / 1.05))
