"""One digit of any size and colour becomes what MNIST shows: its place, its size, its polarity, its pen."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from services.vision.pipeline.digit import BlankError, find_ink, fit, place, prepare


def draw(
    text: str = "5",
    *,
    size: tuple[int, int] = (200, 240),
    height: int = 150,
    at: tuple[int, int] = (50, 30),
    ink: int = 20,
    ground: int = 235,
) -> Image.Image:
    """A digit of Pillow's own font on an even ground."""
    image = Image.new("RGB", size, (ground,) * 3)
    font = ImageFont.load_default(height)
    ImageDraw.Draw(image).text(at, text, font=font, fill=(ink,) * 3)
    return image


def center_of_mass(ink: np.ndarray) -> tuple[float, float]:
    rows, columns = np.mgrid[0:28, 0:28]
    return float((ink * rows).sum() / ink.sum()), float((ink * columns).sum() / ink.sum())


def box(ink: np.ndarray) -> tuple[int, int]:
    rows, columns = np.flatnonzero(ink.max(axis=1) > 0.2), np.flatnonzero(ink.max(axis=0) > 0.2)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


@pytest.mark.parametrize("digit", "0123456789")
def test_light_ink_on_nothing_twenty_pixels_high_and_in_the_middle(digit: str) -> None:
    prepared = prepare(draw(digit))
    assert prepared.shape == (1, 1, 28, 28)
    assert prepared.dtype == np.float32
    ink = prepared[0, 0]
    assert ink.min() == 0
    assert ink.max() == pytest.approx(1)
    assert ink[0].max() == ink[-1].max() == ink[:, 0].max() == ink[:, -1].max() == 0
    assert max(box(ink)) in (19, 20)
    assert center_of_mass(ink) == pytest.approx((13.5, 13.5), abs=0.75)


@pytest.mark.parametrize(
    "image",
    [
        draw(ink=235, ground=20),
        draw(ink=120, ground=180),
        draw(at=(0, 70)),
        draw(size=(800, 900), at=(500, 500)),
        draw(size=(1000, 1200), height=900, at=(150, 20)),
        draw().convert("RGBA").convert("P").convert("RGB"),
    ],
    ids=["light on dark", "faint", "elsewhere", "small", "large", "few colours"],
)
def test_colour_place_and_size_do_not_matter(image: Image.Image) -> None:
    expected, seen = prepare(draw())[0, 0], prepare(image)[0, 0]
    both = (expected * seen).sum() / np.sqrt((expected**2).sum() * (seen**2).sum())
    assert both > 0.93


def test_light_from_one_side_and_noise_are_no_ink() -> None:
    image = np.asarray(draw(ink=40, ground=190)).astype(float)
    image += np.linspace(0, 45, image.shape[1])[None, :, None]
    image += np.random.default_rng(0).normal(0, 4, image.shape[:2])[..., None]
    seen = prepare(Image.fromarray(image.clip(0, 255).astype(np.uint8)))[0, 0]
    expected = prepare(draw())[0, 0]
    assert (expected * seen).sum() / np.sqrt((expected**2).sum() * (seen**2).sum()) > 0.95
    assert seen[0].max() == seen[-1].max() == 0


def test_dust_does_not_move_the_digit() -> None:
    image = draw()
    expected = prepare(image)[0, 0]
    ImageDraw.Draw(image).ellipse((5, 5, 9, 9), fill=(0, 0, 0))
    assert np.abs(prepare(image)[0, 0] - expected).max() < 0.1


def test_a_thin_pen_leaves_a_stroke_that_can_be_seen() -> None:
    image = Image.new("L", (400, 400), 255)
    ImageDraw.Draw(image).line([(100, 60), (300, 60), (170, 350)], fill=0, width=3)
    ink = prepare(image.convert("RGB"))[0, 0]
    rows = ink[6:22].max(axis=1)
    assert rows.min() > 0.5


def test_what_is_prepared_stays_as_it_is() -> None:
    once = prepare(draw("7"))
    again = prepare(Image.fromarray((once[0, 0] * 255).round().astype(np.uint8)).convert("RGB"))
    assert np.abs(once - again).mean() < 0.01


@pytest.mark.parametrize("value", [0, 128, 255])
def test_an_even_picture_is_blank(value: int) -> None:
    with pytest.raises(BlankError, match="one tone"):
        prepare(Image.new("RGB", (64, 64), (value,) * 3))


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (2, 2), (3, 1)])
def test_tiny_pictures_give_an_input_or_are_blank(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0]), dtype=np.uint8)
    try:
        ink = prepare(Image.fromarray(noise).convert("RGB"))
    except BlankError:
        return
    assert ink.shape == (1, 1, 28, 28)
    assert np.isfinite(ink).all()
    assert 0 <= ink.min() <= ink.max() <= 1


def test_pictures_are_only_ever_shrunk() -> None:
    assert fit(28, 28) == (28, 28)
    assert fit(1024, 512) == (256, 128)
    assert fit(1, 100_000) == (1, 256)


def test_ink_is_what_differs_from_the_border() -> None:
    gray = np.full((20, 20), 200, np.float32)
    gray[5:15, 9:11] = 50
    ink = find_ink(gray)
    assert ink[10, 10] == pytest.approx(1)
    assert ink[0].max() == 0


def test_a_digit_is_never_cut_off() -> None:
    digit = np.zeros((20, 20), np.float32)
    digit[:, 0] = 1
    placed = place(digit)
    assert placed.sum() == pytest.approx(20)
