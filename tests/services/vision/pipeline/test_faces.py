"""Faces out of known maps: where a cell puts its box and landmarks, doubles, thresholds, mapping back."""

import numpy as np
import pytest
from PIL import Image

from services.vision.pipeline.faces import FaceConstants, FoundFace, fit, pick, prepare

CONSTANTS = FaceConstants(
    mean=(0, 0, 0),
    std=(1, 1, 1),
    max_side=640,
    stride=32,
    cell=4,
    score_threshold=0.5,
    iou_threshold=0.3,
)


class Maps:
    """The four maps of a 64 x 32 input, empty until faces are put in."""

    def __init__(self) -> None:
        self.heatmap = np.zeros((1, 8, 16), np.float32)
        self.scale = np.zeros((2, 8, 16), np.float32)
        self.offset = np.zeros((2, 8, 16), np.float32)
        self.landmarks = np.zeros((10, 8, 16), np.float32)

    def put(self, row: int, column: int, score: float, height: float, width: float) -> None:
        self.heatmap[0, row, column] = score
        self.scale[:, row, column] = np.log([height / 4, width / 4])
        # y, x of each mark, in parts of the box.
        self.landmarks[:, row, column] = [0.25, 0.25, 0.25, 0.75, 0.5, 0.5, 0.75, 0.25, 0.75, 0.75]

    def find(
        self, width: int = 64, height: int = 32, min_score: float | None = None, max_results: int = 100
    ) -> list[FoundFace]:
        return pick(
            self.heatmap,
            self.scale,
            self.offset,
            self.landmarks,
            CONSTANTS,
            width=width,
            height=height,
            min_score=min_score,
            max_results=max_results,
        )


def test_one_face() -> None:
    maps = Maps()
    maps.put(3, 7, 0.875, height=8, width=16)
    (face,) = maps.find()
    # The cell's middle is (30, 14).
    assert face.score == 0.875
    assert face.box == pytest.approx((22, 10, 38, 18))
    assert np.array(face.landmarks) == pytest.approx(
        np.array([(26, 12), (34, 12), (30, 14), (26, 16), (34, 16)])
    )


def test_offsets_move_the_box_by_parts_of_a_cell() -> None:
    maps = Maps()
    maps.put(3, 7, 0.9, height=8, width=8)
    maps.offset[:, 3, 7] = (0.5, -0.25)  # down, to the left
    assert maps.find()[0].box == pytest.approx((25, 12, 33, 20))


def test_faces_are_mapped_to_the_image_each_side_by_its_own_scale() -> None:
    maps = Maps()
    maps.put(3, 7, 0.9, height=8, width=16)
    (face,) = maps.find(width=128, height=16)
    assert face.box == pytest.approx((44, 5, 76, 9))
    assert face.landmarks[2] == pytest.approx((60, 7))


def test_boxes_and_landmarks_stay_within_the_image() -> None:
    maps = Maps()
    maps.put(0, 15, 0.9, height=30, width=30)
    (face,) = maps.find()
    x1, y1, x2, y2 = face.box
    assert (0 <= x1 < x2 <= 64) and (0 <= y1 < y2 <= 32)
    assert all(0 <= x <= 64 and 0 <= y <= 32 for x, y in face.landmarks)


def test_doubles_go_and_the_best_come_first() -> None:
    maps = Maps()
    maps.put(3, 3, 0.7, height=12, width=12)
    maps.put(3, 4, 0.8, height=12, width=12)
    maps.put(3, 12, 0.6, height=12, width=12)
    assert [face.score for face in maps.find()] == pytest.approx([0.8, 0.6])
    assert [face.score for face in maps.find(max_results=1)] == pytest.approx([0.8])


def test_thresholds() -> None:
    maps = Maps()
    maps.put(3, 3, 0.5, height=8, width=8)
    maps.put(3, 12, 0.25, height=8, width=8)
    assert maps.find() == []  # the model's own: above 0.5
    assert [face.score for face in maps.find(min_score=0.25)] == [0.5, 0.25]


def test_a_threshold_of_zero_is_answered_within_bounds() -> None:
    maps = Maps()
    maps.heatmap += 0.01
    assert len(maps.find(min_score=0)) <= 100


def test_cells_that_are_no_numbers_are_left_out() -> None:
    maps = Maps()
    maps.put(3, 3, 0.9, height=8, width=8)
    maps.scale[0, 3, 3] = np.inf
    maps.put(3, 12, 0.9, height=8, width=8)
    maps.landmarks[0, 3, 12] = np.nan
    assert maps.find() == []


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((512, 512), (512, 512)),
        ((640, 640), (640, 640)),
        ((641, 480), (640, 480)),
        ((300, 200), (320, 224)),
        ((4000, 3000), (640, 480)),
        ((1, 5000), (32, 640)),
        ((10, 10), (32, 32)),
    ],
)
def test_sides_are_whole_strides_within_the_largest(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fit(*size, CONSTANTS) == expected
    assert prepare(Image.new("RGB", (5, 5)), expected, CONSTANTS).shape == (1, 3, expected[1], expected[0])
