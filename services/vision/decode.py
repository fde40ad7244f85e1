"""Encoded bytes to an upright RGB image: JPEG, PNG, WebP, GIF, BMP and TIFF, through Pillow.

Lives here: everything that depends on a file format: its header's pixel count (checked before a pixel is decoded),
EXIF orientation, colour modes, transparency, the first frame of an animation, and what is said of bytes that are no image.
Not here: how many bytes or images are allowed (`validation`), and what a model wants of an image (`pipeline`).
"""

import logging
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from shared.errors import InvalidArgument

# What Pillow warns of (damaged EXIF, odd headers) is the client's affair, in the client's words: no log line of ours.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)

# Pillow knows many more formats; parsers nobody needs are never handed a client's bytes.
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
EXPECTED: Final = "an encoded image: JPEG, PNG, WebP, GIF, BMP or TIFF"

# A progressive JPEG is decoded once per scan. Encoders write about ten; thousands of empty ones are an attack on the CPU.
MAX_JPEG_SCANS: Final = 100

_SCAN: Final = b"\xff\xda"
_END: Final = b"\xd9"
# What begins a segment or ends the image: not a stuffed byte, a restart, the start, or a reserved one, at which a decoder
# looks on right behind it. Of a run of FF the last one counts, and no byte is looked at twice.
_MARKER: Final = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
# Each takes a microsecond.
_MOST_SEGMENTS: Final = 10_000

# A JPEG that is to be shrunk far is decoded at 1/2, 1/4 or 1/8 of its size, but never below twice the size asked for:
# the resampling that follows then sees all that it would have kept.
SPARE: Final = 2

# What a Pillow plugin raises on a damaged file, seen by mutating files of every format. MemoryError is Pillow's word for a
# header whose sizes overflow.
DAMAGE: Final = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    MemoryError,
    AssertionError,
    struct.error,
    zlib.error,
)

# First bytes -> name, for those that are sent by mistake most often.
STRANGERS: Final = (
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "a zip archive"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "gzip data"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML document"),
    (b"<!DOCTYPE html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"data:image/", "a data: URL (send the decoded bytes)"),
    (b"/9j/", "base64 text of a JPEG (send the decoded bytes)"),
    (b"iVBORw0KGgo", "base64 text of a PNG (send the decoded bytes)"),
    (b"\x00\x00\x01\x00", "an ICO icon"),
)
KNOWN: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
)

UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ON_ITS_SIDE: Final = frozenset({5, 6, 7, 8})

Fit = Callable[[int, int], tuple[int, int]]


@dataclass(frozen=True)
class Picture:
    """An upright image, mode RGB, and the upright size its file declares, in pixels.

    `image` has that size or, where a JPEG was decoded at a fraction, a smaller one of the same proportions.
    Coordinates in replies refer to `width` x `height`.
    """

    image: Image.Image
    width: int
    height: int


def decode(content: bytes, *, field: str, max_pixels: int, fit: Fit | None = None) -> Picture:
    """Decodes one image.

    `field` names the input in errors. `fit` tells, for an image's size, the size the caller will shrink it to;
    it allows a JPEG to be decoded at a fraction of its size. Raises InvalidArgument for bytes that are no image of a listed
    format, for a damaged or truncated one, for one of more than `max_pixels`, and for 32-bit samples.
    """
    try:
        opened = Image.open(BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as bomb:
        raise _too_large(field, max_pixels, _claimed(bomb)) from bomb
    except DAMAGE as problem:
        raise _unreadable(field, content, problem) from problem
    with opened:
        width, height = opened.size
        _check_header(opened, content, field, max_pixels)
        try:
            if opened.format in ("JPEG", "MPO") and fit is not None:
                least = fit(width, height)
                opened.draft(None, (least[0] * SPARE, least[1] * SPARE))
            opened.load()
            orientation = _orientation(opened)
            flat = _flatten(opened, field)
        except Image.DecompressionBombError as bomb:
            raise _too_large(field, max_pixels, _claimed(bomb)) from bomb
        except DAMAGE as problem:
            raise _damaged(field, opened.format or "image", len(content), problem) from problem
    if orientation in UPRIGHT:
        flat = flat.transpose(UPRIGHT[orientation])
    if orientation in ON_ITS_SIDE:
        width, height = height, width
    return Picture(flat, width, height)


def _check_header(opened: Image.Image, content: bytes, field: str, max_pixels: int) -> None:
    """Refuses by what the header says; nothing has been decoded yet."""
    width, height = opened.size
    if width < 1 or height < 1:
        raise InvalidArgument(field, expected="an image of at least 1 x 1 pixels", got=f"{width} x {height}")
    if width * height > max_pixels:
        raise _too_large(field, max_pixels, f"{width} x {height} = {width * height:,} pixels")
    if isinstance(opened, TiffImagePlugin.TiffImageFile):
        # A whole tile is decoded even where the image is a small corner of it.
        tile = int(opened.tag_v2.get(TiffImagePlugin.TILEWIDTH, 0)) * int(
            opened.tag_v2.get(TiffImagePlugin.TILELENGTH, 0)
        )
        if tile > max_pixels:
            raise _too_large(field, max_pixels, f"a TIFF tile of {tile:,} pixels")
    if opened.format in ("JPEG", "MPO"):
        scans = content.count(_SCAN)
        if scans > MAX_JPEG_SCANS:
            # Few have as many, and of those, most have a film behind the picture, whose bytes may be anything.
            scans = _count_scans(content, most=scans)
        if scans > MAX_JPEG_SCANS:
            raise InvalidArgument(
                field,
                expected=f"a JPEG of at most {MAX_JPEG_SCANS} scans",
                got=f"{scans}",
                fix="save it as a baseline JPEG",
            )


def _count_scans(content: bytes, most: int) -> int:
    """Scans of a JPEG up to its end marker; `most` where so many segments come first that no encoder wrote them."""
    scans, at = 0, 2
    for _ in range(_MOST_SEGMENTS):
        found = _MARKER.search(content, at)
        if found is None or found[0][-1:] == _END:
            return scans
        scans += found[0][-1:] == _SCAN[1:]
        # A segment says its length; what a scan has behind it is no marker until its last byte.
        at = found.end() + max(int.from_bytes(content[found.end() : found.end() + 2]), 2)
    return most


def _orientation(opened: Image.Image) -> int:
    """EXIF orientation, 1 to 8. Pillow turns a TIFF itself; damaged EXIF counts as none, since the pixels are whole."""
    if opened.format == "TIFF":
        return 1
    try:
        value = opened.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGE:
        return 1
    return value if isinstance(value, int) and value in UPRIGHT else 1


def _flatten(opened: Image.Image, field: str) -> Image.Image:
    """To mode RGB: 8 bits a channel, transparent pixels on white."""
    image: Image.Image = opened
    if image.mode.startswith("I;16"):
        image = Image.fromarray(_to_eight_bits(image))
    if image.mode in ("I", "F"):
        raise InvalidArgument(
            field,
            expected="8 or 16 bits per channel",
            got=f"a {image.format or 'TIFF'} with 32-bit samples (mode {image.mode}), whose black and white are not defined",
            fix="save it with 8 bits per channel",
        )
    if image.has_transparency_data:
        # Without copies: a large image with alpha is 4 bytes a pixel, and so is what it is laid on.
        clear = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", clear.size, (255, 255, 255))
        white.paste(clear, mask=clear)
        return white
    # `convert` copies even when there is nothing to convert; `load` has already detached the pixels from the file.
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> "np.ndarray[tuple[int, int], np.dtype[np.uint8]]":
    """16-bit grey to 8 by its upper byte; Pillow's own conversion clips. A 12-bit TIFF keeps its values in 16."""
    bits = 16
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = int(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0])
    samples: np.ndarray[tuple[int, int], np.dtype[np.uint16]] = np.asarray(image).astype(np.uint16)
    return (samples >> (bits - 8)).astype(np.uint8)


def _claimed(bomb: Image.DecompressionBombError) -> str:
    """The pixel count out of Pillow's message, which is all it tells."""
    count = re.search(r"(\d+) pixels", str(bomb))
    return f"{int(count[1]):,} pixels" if count else "far more"


def _too_large(field: str, max_pixels: int, got: str) -> InvalidArgument:
    return InvalidArgument(
        field,
        expected=f"at most {max_pixels:,} pixels (width x height)",
        got=got,
        fix="scale the image down before sending it",
    )


def _damaged(field: str, name: str, size: int, problem: BaseException) -> InvalidArgument:
    reason = str(problem).strip() or type(problem).__name__
    return InvalidArgument(
        field,
        expected=f"a whole {name} image",
        got=f"{size:,} damaged or truncated bytes ({reason})",
        fix="send the file again",
    )


def _unreadable(field: str, content: bytes, problem: BaseException) -> InvalidArgument:
    """Bytes that Pillow could not even open: another kind of file, or one of ours with a broken header."""
    for magic, name in KNOWN:
        if content.startswith(magic):
            return _damaged(field, name, len(content), ValueError("its header cannot be read"))
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return _damaged(field, "WebP", len(content), ValueError("its header cannot be read"))
    return InvalidArgument(
        field, expected=EXPECTED, got=_stranger(content), fix="convert it to one of these formats"
    )


def _stranger(content: bytes) -> str:
    start = content[:64].lstrip()
    for magic, name in STRANGERS:
        if start.lower().startswith(magic.lower()):
            return f"{len(content):,} bytes of {name}"
    if content[4:8] == b"ftyp":
        return f"{len(content):,} bytes of a HEIC, AVIF or video file"
    kind = "text" if content[:512].isascii() and b"\x00" not in content[:512] else "an unknown format"
    return f"{len(content):,} bytes of {kind}"
