"""Paired tests, slices and baselines."""

from __future__ import annotations

import numpy as np
import pytest

from shared.training.evaluation.baseline import (
    linear,
    majority,
    nearest_neighbour,
    nearest_text,
    tfidf_linear,
)
from shared.training.evaluation.paired import compare, mcnemar
from shared.training.evaluation.slices import by_length, cut


@pytest.mark.parametrize(
    ("only_a", "only_b", "p_value"),
    # 2 * P(Binomial(n, 1/2) <= the smaller)
    [(0, 0, 1.0), (5, 5, 1.0), (10, 2, 2 * 79 / 4096), (0, 6, 2 / 64)],
)
def test_mcnemar_is_exact(only_a: int, only_b: int, p_value: float) -> None:
    assert mcnemar(only_a, only_b) == pytest.approx(p_value)


def test_a_better_model_is_called_better_and_the_other_way_round() -> None:
    rng = np.random.default_rng(0)
    worse = rng.random(500) < 0.7
    better = worse | (rng.random(500) < 0.3)
    found = compare(better, worse)
    assert found.verdict == "better"
    assert found.difference.low > 0
    assert found.only_b == 0
    assert compare(worse, better).verdict == "worse"
    assert compare(worse, better).difference.value == pytest.approx(-found.difference.value)
    assert compare(worse, worse).verdict == "no difference shown"


def test_chance_is_called_a_difference_in_about_one_case_of_twenty() -> None:
    rng = np.random.default_rng(0)
    verdicts = [
        mcnemar(int((a & ~b).sum()), int((b & ~a).sum())) < 0.05
        for a, b in ((rng.random(300) < 0.8, rng.random(300) < 0.8) for _ in range(200))
    ]
    assert sum(verdicts) <= 20


def test_unequal_items_are_refused() -> None:
    with pytest.raises(ValueError, match="the same items"):
        compare(np.array([True]), np.array([True, False]))


def test_slices_come_worst_first_and_small_ones_together() -> None:
    keys = np.array(["x"] * 100 + ["y"] * 100 + ["z"] * 3 + ["w"] * 2)
    correct = np.array([True] * 95 + [False] * 5 + [True] * 60 + [False] * 40 + [True] * 5)
    found = cut(correct, keys)
    assert [(part.name, part.items) for part in found] == [("y", 100), ("x", 100), ("(few)", 5)]
    assert found[0].p_value < 0.001
    assert found[0].accuracy.low < 0.6 < found[0].accuracy.high
    only = cut(np.array([True, False]), np.array(["a", "a"]), at_least=1)
    assert only[0].p_value == 1.0


def test_lengths_become_named_ranges() -> None:
    found = by_length([0, 4, 5, 19, 20, 1000], [5, 20], "words")
    assert list(found) == [
        *["under 5 words"] * 2,
        *["5 to 20 words"] * 2,
        *["20 words or more"] * 2,
    ]


TRAIN = ["good film", "a good one", "very good", "bad film", "so bad", "a bad one"]
TRUTH = np.array([1, 1, 1, 0, 0, 0])


def test_baselines_of_texts_learn_the_word_that_says_it() -> None:
    held_out, truth = ["good good", "really bad"], np.array([1, 0])
    for baseline in (
        tfidf_linear(TRAIN, TRUTH, held_out),
        tfidf_linear(TRAIN, TRUTH, held_out, kind="logistic", analyzer="char_wb", grams=(2, 4)),
        nearest_text(TRAIN, TRUTH, held_out),
    ):
        assert baseline.correct(truth).all(), baseline.name
    assert tfidf_linear(TRAIN, TRUTH, held_out).name == "TF-IDF (word 1 to 2) + linear SVM"


def test_baselines_of_vectors_and_the_majority() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 200)
    pictures = rng.normal(truth[:, None, None] * 3.0, 1.0, (200, 4, 4))
    for make in (nearest_neighbour, linear):
        assert make(pictures[:100], truth[:100], pictures[100:]).correct(truth[100:]).mean() > 0.95
    assert list(majority(np.array([2, 1, 2]), 3).answers) == [2, 2, 2]
