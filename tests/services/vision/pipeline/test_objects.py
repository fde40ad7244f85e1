"""Detections of known tensors: thresholds, doubles per class, mapping to the upright image."""

import math

import numpy as np
import pytest
from PIL import Image

from services.vision.pipeline.objects import FoundObject, SquareConstants, pick, prepare

CONSTANTS = SquareConstants(
    image_size=512, mean=(0, 0, 0), std=(1, 1, 1), score_threshold=0.3, iou_threshold=0.4
)
LABELS = ("person", "cat", "dog")


def find(
    *rows: tuple[float, ...], min_score: float | None = None, max_results: int = 100
) -> list[FoundObject]:
    return pick(
        np.array(rows, np.float32).reshape(-1, 6),
        LABELS,
        CONSTANTS,
        width=1024,
        height=256,
        min_score=min_score,
        max_results=max_results,
    )


def test_boxes_are_mapped_to_the_image() -> None:
    assert find((0, 128, 256, 512, 0.5, 1)) == [FoundObject(1, "cat", 0.5, (0, 64, 512, 256))]


def test_boxes_are_clipped_and_those_without_area_go() -> None:
    found = find((-10, -10, 600, 600, 0.9, 0), (520, 0, 600, 100, 0.9, 0), (5, 5, 5, 9, 0.9, 0))
    assert [one.box for one in found] == [(0, 0, 1024, 256)]


def test_the_models_threshold_holds_unless_the_caller_gives_one() -> None:
    rows = ((0, 0, 50, 50, 0.2, 0), (100, 100, 150, 150, 0.4, 0), (200, 200, 250, 250, 0.6, 0))
    assert [one.score for one in find(*rows)] == pytest.approx([0.6, 0.4])
    assert [one.score for one in find(*rows, min_score=0.0)] == pytest.approx([0.6, 0.4, 0.2])
    assert [one.score for one in find(*rows, min_score=0.5)] == pytest.approx([0.6])


def test_doubles_go_within_a_class_only() -> None:
    found = find((0, 0, 100, 100, 0.9, 1), (2, 2, 100, 100, 0.8, 1), (1, 1, 100, 100, 0.7, 2))
    assert [(one.label, one.score) for one in found] == [
        ("cat", pytest.approx(0.9)),
        ("dog", pytest.approx(0.7)),
    ]


def test_the_best_of_many() -> None:
    rows = [(40.0 * at, 0, 40.0 * at + 20, 20, 0.4 + at / 20, at % 3) for at in range(10)]
    found = find(*rows, max_results=3)
    assert [one.score for one in found] == pytest.approx([0.85, 0.8, 0.75])


def test_rows_that_are_no_numbers_are_left_out() -> None:
    found = find(
        (math.nan, 0, 50, 50, 0.9, 0),
        (0, 0, 50, 50, math.nan, 0),
        (0, 0, math.inf, 50, 0.9, 0),
        (0, 0, 9, 9, 0.9, 7),
    )
    assert found == []
    assert find() == []


def test_the_input_is_the_whole_image_squeezed() -> None:
    image = Image.new("RGB", (100, 50), (255, 0, 0))
    image.paste((0, 0, 255), (50, 0, 100, 50))
    tensor = prepare(image, CONSTANTS)
    assert tensor.shape == (1, 3, 512, 512)
    assert tensor[0, :, 256, 100].tolist() == [255, 0, 0]
    assert tensor[0, :, 256, 400].tolist() == [0, 0, 255]
