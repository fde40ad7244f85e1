"""Shares out of similarities."""

import numpy as np
import pytest

from services.nlp.pipeline.similarity import phrase, rank, score


def test_shares_sum_to_one_and_follow_similarity():
    labels = np.eye(3, dtype=np.float32)
    shares, similarities = score(np.array([0.8, 0.6, 0.0], np.float32), labels, 20.0)
    assert shares.sum() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(similarities, [0.8, 0.6, 0.0], atol=1e-6)
    assert shares[0] / shares[1] == pytest.approx(np.exp(20 * 0.2), rel=1e-3)


def test_rounding_never_leaves_the_range():
    vector = np.full(2, 0.70710689, np.float32)
    assert score(vector, np.stack([vector, -vector]), 20.0)[1].tolist() == [1.0, -1.0]


def test_equal_scores_stay_in_order():
    assert rank([0.2, 0.5, 0.2, 0.5]) == [1, 3, 0, 2]


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        ("sports", "This text is about sports."),
        ("about sports", "This text is about sports."),
        ("About sports", "This text is About sports."),
        ("  two \n words ", "This text is about two words."),
    ],
)
def test_labels_become_sentences(label, sentence):
    assert phrase(label) == sentence
