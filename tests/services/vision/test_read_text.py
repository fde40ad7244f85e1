"""ReadText with the real model: pages as they are scanned, turned, and made by the test."""

import math

import pytest
from PIL import Image, ImageDraw, ImageFont
from sensorium.vision.v1 import vision_service_pb2 as pb

from tests.services.vision.asking import ask, images, refused
from tests.services.vision.picture import encode

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORDS = (
    "Invoice number 20417",
    "Seven wizards mix potions",
    "Total due: 250 dollars",
)


def print_page(angle: float = 0) -> Image.Image:
    """A page with WORDS, turned clockwise by `angle` degrees."""
    page = Image.new("RGB", (640, 400), "white")
    font = ImageFont.load_default(32)
    for row, words in enumerate(WORDS):
        ImageDraw.Draw(page).text((60, 80 + 90 * row), words, fill=(20, 20, 40), font=font)
    return page.rotate(-angle, Image.Resampling.BICUBIC, expand=True, fillcolor="white")


def squeeze(text: str) -> str:
    """Without spaces, some of which the model drops."""
    return text.replace(" ", "").lower()


async def read(vision, *contents: bytes, **options: object) -> pb.ReadTextResponse:
    return await ask(vision.ReadText(pb.ReadTextRequest(images=images(*contents), **options)))


async def test_a_scanned_page(vision, page):
    reply = await read(vision, page)
    (result,) = reply.results
    assert reply.model.name == "vision/pp-ocr"
    lines = result.text.split("\n")
    assert lines == [line.text for line in result.lines]
    assert lines[0] == "Region-based segmentation"
    assert squeeze(lines[1]) == "letusfirstdeterminemarkersofthecoinsandthe"
    assert squeeze(lines[2]).startswith("background.thesemarkersarepixels")
    assert squeeze(lines[4]) == "histogramofgreyvalues:"
    for line in result.lines:
        assert 0.5 <= line.score <= 1
        assert len(line.corners) == 4
        assert all(0 <= corner.x <= 384 and 0 <= corner.y <= 191 for corner in line.corners)
        begin, end = line.corners[:2]
        assert begin.x < end.x
    assert result.lines[0].corners[0].y < result.lines[1].corners[0].y
    assert reply.timing.compute.ToNanoseconds() > 0


@pytest.mark.parametrize("angle", [0, 9, -15, 90, 180, 270])
async def test_a_page_that_lies_otherwise_is_read_the_same(vision, angle):
    (result,) = (await read(vision, encode(print_page(angle), "PNG"))).results
    assert [squeeze(line.text) for line in result.lines] == [squeeze(words) for words in WORDS]
    for line in result.lines:
        begin, end = line.corners[:2]
        seen = math.degrees(math.atan2(end.y - begin.y, end.x - begin.x))
        assert math.cos(math.radians(seen - angle)) > math.cos(math.radians(4))


async def test_the_same_page_as_a_photo_of_a_phone(vision):
    """Stored on its side, large, JPEG: corners refer to the upright image."""
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = print_page().resize((2560, 1600), Image.Resampling.BICUBIC)
    content = encode(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=90, exif=exif)
    (result,) = (await read(vision, content)).results
    assert [squeeze(line.text) for line in result.lines] == [squeeze(words) for words in WORDS]
    assert result.lines[0].corners[0].x == pytest.approx(240, abs=40)
    assert result.lines[2].corners[3].y == pytest.approx(4 * 290, abs=60)


async def test_two_columns_in_a_row_are_read_from_left_to_right(vision):
    page = Image.new("RGB", (900, 200), "white")
    font = ImageFont.load_default(30)
    for x, y, words in ((40, 60, "first"), (500, 56, "second"), (40, 130, "third"), (500, 132, "fourth")):
        ImageDraw.Draw(page).text((x, y), words, fill="black", font=font)
    (result,) = (await read(vision, encode(page, "PNG"))).results
    assert result.text == "first\nsecond\nthird\nfourth"


async def test_a_strip_of_one_line(vision):
    strip = Image.new("RGB", (500, 28), "white")
    ImageDraw.Draw(strip).text(
        (10, 2), "A single line of text", fill="black", font=ImageFont.load_default(20)
    )
    (result,) = (await read(vision, encode(strip, "PNG"))).results
    assert squeeze(result.text) == "asinglelineoftext"


async def test_nothing_to_read_and_nothing_sure_enough(vision, page):
    blank = encode(Image.new("RGB", (640, 480), "white"), "PNG")
    dot = encode(Image.new("RGB", (1, 1)), "PNG")
    reply = await read(vision, blank, dot)
    assert [(result.status.code, result.text, len(result.lines)) for result in reply.results] == [
        (0, "", 0)
    ] * 2
    reply = await read(vision, page, min_score=1.0)
    assert reply.results[0].text == ""


async def test_a_page_does_not_depend_on_its_company(vision, page):
    printed = encode(print_page(), "PNG")
    alone = (await read(vision, page)).results[0]
    first, bad, second, third = (await read(vision, page, b"%PDF-1.4 no image", printed, page)).results
    assert "PDF" in bad.status.message
    assert squeeze(second.text) == squeeze("\n".join(WORDS))
    for result in (first, third):
        assert result.text == alone.text
        assert [line.score for line in result.lines] == pytest.approx(
            [line.score for line in alone.lines], abs=1e-3
        )


async def test_fewer_images_than_elsewhere(vision, page):
    error = await refused(vision.ReadText(pb.ReadTextRequest(images=images(*[page] * 9))))
    assert "expected 1 to 8 images, got 9" in error.details()
