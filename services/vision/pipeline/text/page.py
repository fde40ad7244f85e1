"""The steps between the graphs that read a page, put together: page → boxes → lines → texts."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from services.vision.pipeline.tensor import Floats
from services.vision.pipeline.text import detection, recognition
from services.vision.pipeline.text.constants import TextConstants
from services.vision.pipeline.text.crop import Line, cut
from services.vision.pipeline.text.detection import Layout
from services.vision.pipeline.text.order import reading_order
from services.vision.pipeline.text.recognition import Reading


@dataclass(frozen=True)
class Page:
    """An image laid out for reading, the detecting graph's input, and the upright image's size in pixels."""

    image: Image.Image
    layout: Layout
    tensor: Floats
    width: int
    height: int


@dataclass(frozen=True)
class ReadLine:
    """A line's text, its confidence, and its four corners x, y in pixels of the upright image, in reading direction."""

    text: str
    score: float
    corners: tuple[tuple[float, float], ...]


def lay_out(image: Image.Image, width: int, height: int, constants: TextConstants) -> Page:
    """The page of an upright image whose file declares `width` x `height` pixels."""
    layout = detection.lay_out(width, height, constants.detect)
    if image.size != layout.size:
        image = image.resize(layout.size, Image.Resampling.BILINEAR)
    tensor = detection.prepare(image, layout, constants.mean, constants.std)
    return Page(image, layout, tensor, width, height)


def cut_lines(page: Page, probability: Floats, constants: TextConstants) -> list[Line]:
    """The lines that the detecting graph's map [height, width] shows, cut out, as they stand on the page."""
    return [cut(page.image, box) for box in detection.find_boxes(probability, page.layout, constants.detect)]


def orient_inputs(lines: Sequence[Line], constants: TextConstants) -> list[Floats]:
    """The orienting graph's inputs for lines."""
    return [recognition.orient_input(line.image, constants.mean, constants.std) for line in lines]


def turn_upright(lines: Sequence[Line], answers: Sequence[Floats], constants: TextConstants) -> list[Line]:
    """The lines, those turned that the orienting graph's answers [2] call upside down, in reading order."""
    upright = [
        line.turned() if recognition.is_upside_down(answer, constants.orient.threshold) else line
        for line, answer in zip(lines, answers, strict=True)
    ]
    return [upright[index] for index in reading_order([line.corners for line in upright])]


def read_inputs(lines: Sequence[Line], constants: TextConstants) -> list[Floats]:
    """The reading graph's inputs for lines."""
    return [
        recognition.read_input(line.image, constants.recognize.max_width, constants.mean, constants.std)
        for line in lines
    ]


def keep_lines(
    page: Page, lines: Sequence[Line], readings: Sequence[Reading], min_score: float
) -> list[ReadLine]:
    """What was read, without lines that are empty or below `min_score`, mapped to the upright image."""
    across, down = page.width / page.layout.size[0], page.height / page.layout.size[1]
    return [
        ReadLine(
            reading.text,
            reading.score,
            tuple((x * across, y * down) for x, y in line.corners.tolist()),
        )
        for line, reading in zip(lines, readings, strict=True)
        if reading.text and reading.score >= min_score
    ]
