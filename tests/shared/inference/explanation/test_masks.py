"""Which parts a run keeps."""

import numpy as np
import pytest

from shared.inference.explanation.masks import draw_masks


@pytest.mark.parametrize(("parts", "runs"), [(7, 126), (20, 64), (49, 126), (300, 16)])
def test_every_part_is_left_out_about_equally_often(parts: int, runs: int) -> None:
    kept = draw_masks(parts, runs)
    assert kept.shape == (runs, parts)
    left_out = (~kept).sum(axis=0)
    assert left_out.max() - left_out.min() <= max(2, runs // 8)
    assert 0.2 < (~kept).mean() < 0.6


@pytest.mark.parametrize(("parts", "runs"), [(2, 3), (3, 16), (5, 20), (8, 16), (60, 126)])
def test_none_is_whole_and_none_empty(parts: int, runs: int) -> None:
    kept = draw_masks(parts, runs)
    assert kept.any(axis=1).all()
    assert not kept.all(axis=1).any()


def test_of_few_parts_each_mask_comes_once() -> None:
    kept = draw_masks(4, 100)
    assert len(kept) == len(np.unique(kept, axis=0)) == 14


@pytest.mark.parametrize("parts", [0, 1])
def test_nothing_to_tell_apart(parts: int) -> None:
    assert draw_masks(parts, 100).shape == (0, parts)


def test_the_same_again() -> None:
    np.testing.assert_array_equal(draw_masks(30, 64), draw_masks(30, 64))
