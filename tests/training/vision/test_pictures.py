"""Dividing labelled pictures: disjoint, even over the classes, the same again."""

from pathlib import Path

import numpy as np
import pytest

from services.vision.training.data.pictures import Pictures, check_classes, fold, hold_out
from shared.training.errors import DataError, TrainingError


def make_pictures(labels: list[int], classes: tuple[str, ...] = ("a", "b", "c")) -> Pictures:
    pixels = np.arange(len(labels) * 4, dtype=np.uint8).reshape(-1, 2, 2)
    names = tuple(f"{index}.png" for index in range(len(labels)))
    return Pictures(pixels, np.array(labels, np.int64), classes, Path("here"), names)


def test_folds_are_disjoint_even_and_everything() -> None:
    labels = np.repeat([0, 1, 2], [50, 31, 7])
    parts = [fold(labels, index, 5, seed=3) for index in range(5)]
    assert sorted(np.concatenate([inside for _outside, inside in parts])) == list(range(len(labels)))
    for outside, inside in parts:
        assert sorted([*outside, *inside]) == list(range(len(labels)))
        assert np.bincount(labels[inside], minlength=3).tolist()[0] == 10
        assert abs(len(inside) - len(labels) / 5) < 1
        assert np.bincount(labels[inside], minlength=3)[2] >= 1
    assert np.array_equal(fold(labels, 1, 5, seed=3)[1], parts[1][1])
    assert not np.array_equal(fold(labels, 1, 5, seed=4)[1], parts[1][1])
    with pytest.raises(ValueError, match="0 to 4"):
        fold(labels, 5, 5, seed=0)


def test_of_each_class_something_is_held_out_and_something_stays() -> None:
    labels = np.repeat([0, 1, 2], [40, 10, 2])
    stays, apart = hold_out(labels, 0.1, seed=0)
    assert np.bincount(labels[apart]).tolist() == [4, 1, 1]
    assert np.bincount(labels[stays]).tolist() == [36, 9, 1]
    assert not set(stays) & set(apart)
    with pytest.raises(TrainingError, match=r"class 1: expected at least 2 pictures, .* got 1; is --limit"):
        hold_out(np.array([0, 0, 1]), 0.5, seed=0)


def test_a_limit_takes_the_classes_in_turn() -> None:
    pictures = make_pictures([0] * 10 + [1] * 10 + [2] * 2)
    limited = pictures.limit(8)
    assert np.bincount(limited.labels).tolist() == [3, 3, 2]
    assert limited.names[0] == "0.png"
    assert limited.pixels[3].tolist() == pictures.pixels[10].tolist()
    assert pictures.limit(None) is pictures.limit(22) is pictures


def test_the_digest_is_of_pixels_labels_and_classes() -> None:
    pictures = make_pictures([0, 1, 2])
    assert pictures.sha256 == make_pictures([0, 1, 2]).sha256
    others = [
        make_pictures([0, 2, 1]),
        make_pictures([0, 1, 2], ("a", "b", "d")),
        Pictures(pictures.pixels + 1, pictures.labels, pictures.classes, pictures.origin),
    ]
    assert len({pictures.sha256, *(other.sha256 for other in others)}) == 4


@pytest.mark.parametrize(
    ("labels", "words"),
    [([], "labelled pictures, got none"), ([1, 1], "two classes, got one, 'b'"), ([0, 1], "none of 'c'")],
)
def test_what_cannot_be_trained_on_is_refused(labels: list[int], words: str) -> None:
    with pytest.raises(DataError, match=words):
        check_classes(make_pictures(labels), advice="add some")
