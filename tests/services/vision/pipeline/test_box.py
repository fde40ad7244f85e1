"""Overlap, suppression and clipping, on rectangles whose answers are known by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.vision.pipeline.box import has_area, overlaps, rescale, suppress


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def test_overlaps() -> None:
    others = boxes((0, 0, 10, 10), (5, 0, 15, 10), (10, 10, 20, 20), (2, 2, 4, 4))
    assert overlaps(boxes((0, 0, 10, 10))[0], others).tolist() == pytest.approx([1, 1 / 3, 0, 0.04])


def test_boxes_without_area_overlap_nothing() -> None:
    empty = boxes((3, 3, 3, 3))
    assert overlaps(empty[0], empty).tolist() == [0]


def test_the_better_of_two_doubles_stays() -> None:
    rows = boxes((0, 0, 10, 10), (1, 0, 11, 10), (100, 100, 110, 110))
    assert suppress(rows, np.array([0.5, 0.9, 0.1], np.float32), 0.4, limit=10).tolist() == [1, 2]


def test_what_a_suppressed_box_covers_is_not_suppressed_by_it() -> None:
    rows = boxes((0, 0, 10, 10), (4, 0, 14, 10), (8, 0, 18, 10))
    assert suppress(rows, np.array([0.9, 0.8, 0.7], np.float32), 0.4, limit=10).tolist() == [0, 2]


def test_limit_and_emptiness() -> None:
    rows = boxes(*((20.0 * at, 0, 20.0 * at + 10, 10) for at in range(5)))
    assert suppress(rows, np.linspace(0, 1, 5, dtype=np.float32), 0.4, limit=2).tolist() == [4, 3]
    assert suppress(boxes(), np.zeros(0, np.float32), 0.4, limit=2).tolist() == []


@given(
    st.lists(st.tuples(*(st.integers(0, 20) for _ in range(4)), st.integers(0, 5)), max_size=25),
    st.sampled_from([0.1, 0.3, 0.5, 0.9]),
)
def test_what_is_kept_is_apart_and_what_is_not_lies_on_a_better_one(
    drawn: list[tuple[int, int, int, int, int]], threshold: float
) -> None:
    rows = boxes(*((x, y, x + w, y + h) for x, y, w, h, _ in drawn))
    scores = np.array([score for *_, score in drawn], np.float32)
    kept = suppress(rows, scores, threshold, limit=100).tolist()
    assert len(set(kept)) == len(kept)
    assert [scores[at] for at in kept] == sorted((scores[at] for at in kept), reverse=True)
    for at in range(len(drawn)):
        covered = [
            other for other in kept if other != at and overlaps(rows[other], rows[at : at + 1])[0] > threshold
        ]
        if at in kept:
            assert not covered
        else:
            assert any(scores[other] >= scores[at] for other in covered)


def test_rescaling_clips_to_the_image() -> None:
    rows = rescale(boxes((-5, 10, 300, 512)), 2, 0.5, 400, 200)
    assert rows.tolist() == [[0, 5, 400, 200]]
    assert has_area(boxes((0, 0, 1, 1), (3, 0, 3, 5), (5, 5, 4, 6))).tolist() == [True, False, False]
