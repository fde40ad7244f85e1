"""Page layouts, and boxes out of drawn maps of probability."""

import math

import numpy as np
import pytest
from PIL import Image, ImageDraw

from services.vision.pipeline.text.constants import DetectConstants
from services.vision.pipeline.text.detection import Layout, find_boxes, lay_out, mean_inside, prepare
from services.vision.pipeline.text.rectangle import Rectangle

CONSTANTS = DetectConstants(
    max_side=2000, min_side=736, threshold=0.3, box_threshold=0.5, unclip_ratio=1.6, max_candidates=1000
)


class TestLayout:
    @pytest.mark.parametrize(
        ("size", "expected"),
        [
            ((384, 191), Layout((384, 191), 0, (1472, 736))),  # enlarged for the detector only
            ((1240, 1754), Layout((1240, 1754), 0, (1248, 1760))),
            ((4000, 3000), Layout((2000, 1500), 0, (1984, 1504))),
            ((3000, 400), Layout((2000, 267), 0, (1984, 256))),  # flat, but not too flat
        ],
    )
    def test_pages(self, size: tuple[int, int], expected: Layout) -> None:
        assert lay_out(*size, CONSTANTS) == expected

    def test_a_flat_strip_gets_a_margin(self) -> None:
        layout = lay_out(800, 40, CONSTANTS)
        assert layout.size == (800, 40)
        assert layout.margin == 80  # 800 / 8 * 2 = 200 high in all
        assert layout.seen[0] <= 2000 + 16

    @pytest.mark.parametrize(
        "size", [(1, 1), (1, 50_000_000), (50_000_000, 1), (7071, 7071), (30, 30), (31, 2000)]
    )
    def test_no_size_is_too_odd(self, size: tuple[int, int]) -> None:
        layout = lay_out(*size, CONSTANTS)
        assert min(layout.size) >= 1
        assert max(layout.size) <= 2000
        for seen in layout.seen:
            assert seen % 32 == 0
            assert 32 <= seen <= 2016

    def test_the_input_is_bgr_from_minus_one_to_one_and_its_margin_black(self) -> None:
        layout = lay_out(800, 40, CONSTANTS)
        tensor = prepare(Image.new("RGB", layout.size, (255, 0, 0)), layout, 0.5, 0.5)
        assert tensor.shape == (1, 3, layout.seen[1], layout.seen[0])
        assert tensor[0, :, layout.seen[1] // 2, 100].tolist() == [-1, -1, 1]
        assert tensor[0, :, 0, 100].tolist() == [-1, -1, -1]


class TestBoxes:
    layout = Layout((400, 200), 0, (400, 200))

    def draw(self, *polygons: list[tuple[float, float]], value: float = 0.9) -> np.ndarray:
        image = Image.new("F", (400, 200), 0.0)
        for polygon in polygons:
            ImageDraw.Draw(image).polygon(polygon, fill=value)
        return np.asarray(image)

    def test_a_bar_grows_by_its_area_over_its_perimeter(self) -> None:
        (box,) = find_boxes(self.draw([(100, 50), (199, 50), (199, 69), (100, 69)]), self.layout, CONSTANTS)
        # Dilation sets column 200 and row 70 as well: 100 x 20 between pixel centres.
        d = 100 * 20 * 1.6 / 240
        expected = [(100 - d, 50 - d), (200 + d, 50 - d), (200 + d, 70 + d), (100 - d, 70 + d)]
        assert np.abs(box - np.array(expected)).max() <= 0.5
        assert np.array_equal(box, np.round(box))

    def test_boxes_are_mapped_to_the_page(self) -> None:
        layout = Layout((800, 60), 20, (400, 200))
        (box,) = find_boxes(self.draw([(100, 90), (199, 90), (199, 109), (100, 109)]), layout, CONSTANTS)
        # Twice as wide; the page and its margins are 100 high, half the map.
        d = 100 * 20 * 1.6 / 240
        assert np.abs(box[0] - (2 * (100 - d), (90 - d) / 2 - 20)).max() <= 1
        assert np.abs(box[2] - (2 * (200 + d), (110 + d) / 2 - 20)).max() <= 1

    def test_boxes_stay_on_the_page(self) -> None:
        (box,) = find_boxes(self.draw([(0, 0), (399, 0), (399, 199), (0, 199)]), self.layout, CONSTANTS)
        assert box.tolist() == [[0, 0], [399, 0], [399, 199], [0, 199]]

    @pytest.mark.parametrize("degrees", [-30, -10, 5, 20, 40])
    def test_a_turned_bar(self, degrees: float) -> None:
        angle = math.radians(degrees)
        along, down = (
            np.array([math.cos(angle), math.sin(angle)]),
            np.array([-math.sin(angle), math.cos(angle)]),
        )
        middle = np.array([200.0, 100.0])
        corners = [middle + x * along + y * down for x, y in ((-60, -8), (60, -8), (60, 8), (-60, 8))]
        (box,) = find_boxes(self.draw([tuple(corner) for corner in corners]), self.layout, CONSTANTS)
        d = 120 * 16 * 1.6 / 272
        expected = [middle + x * along + y * down for x, y in ((-60 - d, -8 - d), (60 + d, -8 - d))]
        # Drawing, dilation and growth by them are worth some pixels.
        assert np.abs(box[:2] - np.array(expected)).max() <= 4.5

    def test_weak_and_tiny_marks_are_left_out(self) -> None:
        bar = [(100.0, 50.0), (199.0, 50.0), (199.0, 69.0), (100.0, 69.0)]
        assert find_boxes(self.draw(bar, value=0.4), self.layout, CONSTANTS) == []
        assert find_boxes(self.draw([(5, 5), (6, 5), (6, 6), (5, 6)]), self.layout, CONSTANTS) == []
        assert find_boxes(self.draw(), self.layout, CONSTANTS) == []

    def test_two_bars(self) -> None:
        first = [(20.0, 20.0), (120.0, 20.0), (120.0, 40.0), (20.0, 40.0)]
        second = [(20.0, 120.0), (220.0, 120.0), (220.0, 140.0), (20.0, 140.0)]
        assert len(find_boxes(self.draw(first, second), self.layout, CONSTANTS)) == 2


class TestMean:
    def test_of_an_upright_rectangle(self) -> None:
        values = np.zeros((20, 20), np.float32)
        values[5:10, 4:12] = 1
        assert mean_inside(values, Rectangle((7.5, 7), (1, 0), (7, 4))) == 1
        assert mean_inside(values, Rectangle((7.5, 7), (0, 1), (4, 7))) == 1
        assert mean_inside(values, Rectangle((15, 7), (1, 0), (2, 2))) == 0

    def test_a_turned_rectangle_leaves_out_the_corners_of_its_bounds(self) -> None:
        values = np.zeros((40, 40), np.float32)
        rows, columns = np.mgrid[:40, :40]
        values[np.abs(rows - 20) + np.abs(columns - 20) <= 14] = 1  # a square on its corner
        side = 14 * math.sqrt(2)
        turned = Rectangle((20, 20), (math.sqrt(0.5), math.sqrt(0.5)), (side, side))
        assert mean_inside(values, turned) == pytest.approx(1, abs=0.06)
        assert mean_inside(values, Rectangle((20, 20), (1, 0), (28, 28))) < 0.6

    def test_outside_of_the_map(self) -> None:
        values = np.ones((10, 10), np.float32)
        assert mean_inside(values, Rectangle((0, 0), (0.6, 0.8), (5, 5))) == 1
