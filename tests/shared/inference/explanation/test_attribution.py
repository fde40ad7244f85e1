"""Scores put down to parts."""

import numpy as np
import pytest

from shared.inference.explanation.attribution import attribute
from shared.inference.explanation.masks import draw_masks


@pytest.mark.parametrize(("parts", "runs"), [(3, 6), (10, 64), (40, 126)])
def test_what_adds_up_is_found(parts: int, runs: int) -> None:
    rng = np.random.default_rng(parts)
    weights = rng.normal(size=parts)
    kept = draw_masks(parts, runs)
    found = attribute(kept, kept @ weights + 0.3)
    np.testing.assert_allclose(found, weights, atol=0.35 * np.abs(weights).max())
    assert np.argmax(found) == np.argmax(weights)
    assert np.corrcoef(found, weights)[0, 1] > 0.97


def test_more_parts_than_runs_give_the_same_by_the_other_system() -> None:
    rng = np.random.default_rng(1)
    kept = rng.random((20, 30)) < 0.7
    scores = rng.random(20)
    found = attribute(kept, scores)
    design = kept - kept.mean(axis=0)
    direct = np.linalg.solve(design.T @ design + 0.5 * np.eye(30), design.T @ (scores - scores.mean()))
    np.testing.assert_allclose(found, direct, atol=1e-9)


def test_a_part_without_effect_gets_nothing() -> None:
    kept = draw_masks(6, 62)
    scores = kept[:, 0] * 0.5 + kept[:, 1] * kept[:, 2] * 0.4
    found = attribute(kept, scores)
    assert np.abs(found[3:]).max() < 0.02
    assert found[0] == pytest.approx(0.5, abs=0.03)
    assert found[1] == pytest.approx(found[2], abs=0.02)
