"""Images made for the tests: one scene whose four corners tell which way up it is, in any mode and format."""

from io import BytesIO
from typing import Any

from PIL import Image

# Upright: red top left, green top right, blue bottom left, yellow bottom right; wider than high.
WIDTH, HEIGHT = 96, 64
RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 200, 40), (30, 40, 210), (230, 220, 40)
CORNERS = {(0.25, 0.25): RED, (0.75, 0.25): GREEN, (0.25, 0.75): BLUE, (0.75, 0.75): YELLOW}

# What turns an upright image into the pixels that a file of that EXIF orientation stores.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def make_scene(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """The scene, upright, mode RGB."""
    image = Image.new("RGB", (width, height))
    for (x, y), color in CORNERS.items():
        left, top = (0 if x < 0.5 else width // 2), (0 if y < 0.5 else height // 2)
        image.paste(color, (left, top, left + width - width // 2, top + height - height // 2))
    return image


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """An image's bytes in a format."""
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def encode_turned(orientation: int, kind: str) -> bytes:
    """The scene as a file whose pixels lie as EXIF `orientation` says."""
    turn = STORED[orientation]
    image = make_scene() if turn is None else make_scene().transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(image, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))


def find_far_corners(image: Image.Image, tolerance: int = 40) -> list[str]:
    """The corners of `image` whose colour is not the scene's within `tolerance` per channel; empty: it is the scene."""
    wrong = []
    for (x, y), color in CORNERS.items():
        seen = image.getpixel((int(x * image.width), int(y * image.height)))
        assert isinstance(seen, tuple)
        if max(abs(a - b) for a, b in zip(seen, color, strict=True)) > tolerance:
            wrong.append(f"at {x}, {y}: {seen} instead of {color}")
    return wrong
