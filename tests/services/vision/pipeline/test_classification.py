"""The crop of the middle, probabilities, the order of labels, unit vectors."""

import numpy as np
import pytest
from PIL import Image

from services.vision.pipeline.classification import (
    CropConstants,
    best,
    fit,
    prepare,
    read_labels,
    softmax,
    unit,
)

CONSTANTS = CropConstants(image_size=224, mean=(127, 127, 127), std=(128, 128, 128))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((448, 224), (448, 224)),
        ((100, 200), (224, 448)),
        ((451, 300), (337, 224)),
        ((1, 1), (224, 224)),
        ((1, 3000), (224, 672_000)),
        ((4032, 3024), (299, 224)),
    ],
)
def test_the_shorter_side_becomes_the_models(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fit(*size, CONSTANTS) == expected


@pytest.mark.parametrize("size", [(451, 300), (300, 451), (224, 224), (50, 37), (900, 224), (2000, 1000)])
def test_the_crop_is_that_of_the_whole_image_resized(size: tuple[int, int]) -> None:
    noise = Image.effect_noise(size, 60).convert("RGB")
    whole = noise.resize(fit(*size, CONSTANTS), Image.Resampling.BICUBIC)
    left, top = (whole.width - 224) // 2, (whole.height - 224) // 2
    expected = np.asarray(whole.crop((left, top, left + 224, top + 224))).astype(float)
    seen = prepare(noise, CONSTANTS)[0].transpose(1, 2, 0) * 128 + 127
    difference = np.abs(seen - expected)
    # Pillow takes the passes in the order that is cheaper; between them, pixels are clipped to 0..255.
    assert difference.mean() < 0.5
    assert (difference > 1).mean() < 0.01


def test_a_line_of_pixels_is_prepared_without_enlarging_it_whole() -> None:
    assert prepare(Image.new("RGB", (1, 500_000)), CONSTANTS).shape == (1, 3, 224, 224)


def test_softmax_of_large_logits() -> None:
    probabilities = softmax(np.array([1000.0, 1000.0, 0.0, -1000.0], np.float32))
    assert probabilities.tolist() == pytest.approx([0.5, 0.5, 0, 0])
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)


def test_best_first_and_none_below_the_least_score() -> None:
    logits = np.log(np.array([0.1, 0.5, 0.15, 0.25], np.float32))
    labels = ("a", "b", "c", "d")
    assert [one.label for one in best(logits, labels, top_k=3, min_score=0)] == ["b", "d", "c"]
    found = best(logits, labels, top_k=3, min_score=0.2)
    assert [(one.label, one.index) for one in found] == [("b", 1), ("d", 3)]
    assert [one.score for one in found] == pytest.approx([0.5, 0.25], abs=1e-6)
    assert len(best(logits, labels, top_k=1000, min_score=0)) == 4
    assert best(logits, labels, top_k=3, min_score=1) == []


def test_equal_scores_keep_the_order_of_the_classes() -> None:
    assert [one.index for one in best(np.zeros(4, np.float32), "abcd", top_k=4, min_score=0)] == [0, 1, 2, 3]


def test_unit_vectors() -> None:
    vector = unit(np.array([3.0, 0.0, 4.0], np.float32))
    assert vector.tolist() == pytest.approx([0.6, 0, 0.8])
    assert vector.dtype == np.float32
    assert unit(np.zeros(3, np.float32)).tolist() == [0, 0, 0]


def test_of_synonyms_the_first_is_the_label() -> None:
    assert read_labels("tabby, tabby cat\nEgyptian cat\n") == ("tabby", "Egyptian cat")
