"""The inputs of the line graphs, and CTC on known classes."""

import numpy as np
import pytest
from PIL import Image

from services.vision.pipeline.text.recognition import (
    Reading,
    collapse,
    is_upside_down,
    natural_width,
    orient_input,
    padded_width,
    read_characters,
    read_input,
)

CHARACTERS = ("", "a", "b", " ")


def read(indices: list[int], scores: list[float] | None = None) -> Reading:
    values = np.array(scores or [1.0] * len(indices), np.float32)
    return collapse(np.array(indices, np.int64), values, CHARACTERS)


class TestCollapse:
    def test_repeats_are_one_and_blanks_part_them(self) -> None:
        assert read([0, 1, 1, 0, 1, 2, 2, 3, 0]).text == "aab "

    def test_confidence_is_the_mean_of_first_steps(self) -> None:
        assert read([1, 1, 0, 2], [0.5, 0.9, 0.1, 1.0]) == Reading("ab", 0.75)

    def test_nothing_read(self) -> None:
        assert read([0, 0, 0]) == Reading("", 0.0)
        assert read([]) == Reading("", 0.0)

    def test_the_arrays_are_left_as_they_are(self) -> None:
        indices = np.array([1, 1, 2], np.int64)
        indices.flags.writeable = False
        assert collapse(indices, np.ones(3, np.float32), CHARACTERS).text == "ab"


class TestWidths:
    @pytest.mark.parametrize(
        ("size", "natural", "padded"),
        [
            ((100, 48), 100, 320),
            ((320, 48), 320, 320),
            ((321, 48), 321, 384),
            ((641, 96), 321, 384),
            ((5000, 48), 5000, 2048),
            ((1, 500), 1, 320),
        ],
    )
    def test_the_ladder(self, size: tuple[int, int], natural: int, padded: int) -> None:
        line = Image.new("RGB", size)
        assert natural_width(line) == natural
        assert padded_width(line, 2048) == padded
        assert read_input(line, 2048, 0.5, 0.5).shape == (1, 3, 48, padded)

    def test_a_line_is_padded_with_nothing_on_the_right(self) -> None:
        tensor = read_input(Image.new("RGB", (96, 48), (255, 0, 0)), 2048, 0.5, 0.5)
        assert tensor[0, :, 24, 95].tolist() == [-1, -1, 1]  # blue, green, red
        assert not tensor[:, :, :, 96:].any()

    def test_a_short_line_is_oriented_whole(self) -> None:
        tensor = orient_input(Image.new("RGB", (96, 48), "white"), 0.5, 0.5)
        assert tensor.shape == (1, 3, 48, 192)
        assert (tensor[..., :96] == 1).all()
        assert not tensor[..., 96:].any()

    def test_of_a_long_line_the_middle_is_oriented(self) -> None:
        line = Image.new("RGB", (2000, 96), "black")
        line.paste((255, 255, 255), (1000 - 192, 0, 1000 + 192, 96))
        assert (orient_input(line, 0.5, 0.5) == 1).all()


def test_a_line_is_turned_above_the_threshold_only() -> None:
    assert is_upside_down(np.array([0.05, 0.95], np.float32), 0.9)
    assert not is_upside_down(np.array([0.2, 0.8], np.float32), 0.9)


def test_characters_are_a_json_list_of_strings() -> None:
    assert read_characters(b'["", "a", "\\n", " "]') == ("", "a", "\n", " ")
    for content in (b'{"a": 1}', b"[1]", b"a\nb"):
        with pytest.raises(ValueError):
            read_characters(content)
