"""Files of every listed format and mode become the upright scene; everything else is refused in words."""

import contextlib
import random
import struct
import time
import zipfile
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from services.vision.decode import decode
from shared.errors import InvalidArgument
from tests.services.vision.picture import (
    HEIGHT,
    WIDTH,
    encode,
    encode_turned,
    find_far_corners,
    make_scene,
)

FIELD = "images[0].content"
MAX_PIXELS = 1_000_000


def read(content: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    picture = decode(content, field=FIELD, max_pixels=max_pixels)
    assert picture.image.mode == "RGB"
    assert (picture.width, picture.height) == picture.image.size
    return picture.image


def refuse(content: bytes, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(InvalidArgument) as caught:
        decode(content, field=FIELD, max_pixels=max_pixels)
    assert caught.value.field == FIELD
    return str(caught.value)


class TestFormats:
    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("JPEG", {"quality": 95}),
            ("JPEG", {"quality": 95, "progressive": True}),
            ("JPEG", {"quality": 95, "subsampling": 2}),
            ("PNG", {}),
            ("WEBP", {"quality": 95}),
            ("WEBP", {"lossless": True}),
            ("BMP", {}),
            ("TIFF", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("TIFF", {"compression": "tiff_adobe_deflate"}),
            ("TIFF", {"compression": "jpeg", "quality": 95}),
            ("GIF", {}),
        ],
    )
    def test_the_scene_is_seen(self, kind: str, options: dict[str, object]) -> None:
        image = read(encode(make_scene(), kind, **options))
        assert image.size == (WIDTH, HEIGHT)
        assert find_far_corners(image) == []

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation_is_applied(self, kind: str, orientation: int) -> None:
        image = read(encode_turned(orientation, kind))
        assert image.size == (WIDTH, HEIGHT)
        assert find_far_corners(image) == []

    @pytest.mark.parametrize("orientation", [0, 9, 65535])
    def test_an_orientation_that_does_not_exist_is_none(self, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        assert find_far_corners(read(encode(make_scene(), "PNG", exif=exif))) == []

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
    def test_damaged_exif_leaves_the_image_as_it_is(self) -> None:
        image = read(
            encode(make_scene(), "JPEG", quality=95, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff\x00")
        )
        assert find_far_corners(image) == []

    def test_a_picture_of_several_sizes_in_one_jpeg_is_its_first(self) -> None:
        content = encode(
            make_scene(), "MPO", quality=95, save_all=True, append_images=[Image.new("RGB", (8, 8))]
        )
        assert find_far_corners(read(content)) == []


class TestModes:
    def test_cmyk_jpeg(self) -> None:
        assert find_far_corners(read(encode(make_scene().convert("CMYK"), "JPEG", quality=95))) == []

    def test_cmyk_tiff(self) -> None:
        assert find_far_corners(read(encode(make_scene().convert("CMYK"), "TIFF"))) == []

    def test_grey_becomes_three_equal_channels(self) -> None:
        grey = make_scene().convert("L")
        seen = np.asarray(read(encode(grey, "PNG")))
        assert np.array_equal(seen, np.repeat(np.asarray(grey)[:, :, None], 3, axis=2))

    def test_one_bit(self) -> None:
        seen = np.asarray(read(encode(Image.new("1", (8, 8), 1), "PNG")))
        assert np.array_equal(seen, np.full((8, 8, 3), 255))

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_sixteen_bit_grey_keeps_its_range(self, kind: str) -> None:
        ramp = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
        seen = np.asarray(read(encode(Image.fromarray(ramp), kind)))
        assert np.array_equal(seen[:, :, 0], np.arange(256).reshape(16, 16))

    def test_sixteen_bit_colour(self) -> None:
        image = read(make_png(16, 2, np.asarray(make_scene()).astype(">u2") * 257))
        assert find_far_corners(image, tolerance=1) == []

    def test_sixteen_bit_colour_with_alpha_lies_on_white(self) -> None:
        samples = np.zeros((4, 4, 4), ">u2")
        samples[:2, :, 3] = 65535
        seen = np.asarray(read(make_png(16, 6, samples)))
        assert seen[:2].max() == 0
        assert seen[2:].min() == 255

    def test_alpha_lies_on_white(self) -> None:
        image = make_scene().convert("RGBA")
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        seen, solid = np.asarray(read(encode(image, "PNG"))), np.asarray(make_scene())
        assert seen[0].min() >= 250  # clear: white
        assert np.abs(seen[-1].astype(int) - solid[-1]).max() <= 4  # opaque: the scene
        half = (solid[HEIGHT // 2].astype(int) + 255) // 2
        assert np.abs(seen[HEIGHT // 2].astype(int) - half).max() <= 4

    def test_grey_with_alpha(self) -> None:
        seen = np.asarray(read(encode(Image.new("LA", (4, 4), (0, 0)), "PNG")))
        assert seen.min() == 255

    def test_palette(self) -> None:
        assert find_far_corners(read(encode(make_scene().quantize(4), "PNG"))) == []

    @pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP"])
    def test_palette_with_a_clear_colour(self, kind: str) -> None:
        image = make_scene().quantize(4)
        clear = image.getpixel((0, 0))
        seen = read(encode(image, kind, transparency=clear))
        assert seen.getpixel((10, 10)) == (255, 255, 255) or kind == "WEBP"
        assert seen.getpixel((90, 10))[1] > 150

    def test_webp_with_alpha(self) -> None:
        seen = read(encode(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "WEBP", lossless=True))
        assert np.asarray(seen).min() == 255

    def test_thirty_two_bit_samples_are_refused(self) -> None:
        for array in (np.zeros((4, 4), np.float32), np.zeros((4, 4), np.int32)):
            message = refuse(encode(Image.fromarray(array), "TIFF"))
            assert "8 or 16 bits per channel" in message
            assert "32-bit" in message


class TestAnimations:
    @pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
    def test_the_first_frame_counts(self, kind: str) -> None:
        others = [Image.new("RGB", (WIDTH, HEIGHT), color) for color in ("black", "white")]
        options = {"lossless": True} if kind == "WEBP" else {}
        content = encode(make_scene(), kind, save_all=True, append_images=others, **options)
        with Image.open(BytesIO(content)) as opened:
            assert getattr(opened, "n_frames", 1) == 3
        assert find_far_corners(read(content)) == []


class TestFraction:
    def test_a_large_jpeg_is_decoded_no_smaller_than_twice_what_is_wanted(self) -> None:
        content = encode(make_scene(1600, 1200), "JPEG", quality=95)
        picture = decode(
            content, field=FIELD, max_pixels=10**7, fit=lambda width, height: (width // 8, height // 8)
        )
        assert picture.image.size == (400, 300)
        assert (picture.width, picture.height) == (1600, 1200)
        assert find_far_corners(picture.image) == []

    def test_an_image_on_its_side_keeps_its_upright_size(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        stored = make_scene(1600, 1200).transpose(Image.Transpose.ROTATE_90)
        content = encode(stored, "JPEG", quality=95, exif=exif)
        picture = decode(
            content, field=FIELD, max_pixels=10**7, fit=lambda width, height: (width // 8, height // 8)
        )
        assert picture.image.size == (400, 300)
        assert (picture.width, picture.height) == (1600, 1200)
        assert find_far_corners(picture.image) == []

    def test_a_small_jpeg_is_decoded_whole(self) -> None:
        content = encode(make_scene(), "JPEG")
        picture = decode(content, field=FIELD, max_pixels=10**7, fit=lambda width, height: (224, 224))
        assert picture.image.size == (WIDTH, HEIGHT)


class TestBombs:
    def test_a_png_of_thirty_thousand_squared(self) -> None:
        message = refuse(make_png_header(30_000, 30_000), 50_000_000)
        assert "at most 50,000,000 pixels" in message
        assert "900,000,000" in message

    def test_one_pixel_too_many(self) -> None:
        assert read(encode(Image.new("L", (100, 100)), "PNG"), 10_000).size == (100, 100)
        assert "101 x 100 = 10,100 pixels" in refuse(encode(Image.new("L", (101, 100)), "PNG"), 10_000)

    @pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "BMP", "TIFF"])
    def test_every_format_is_checked_by_its_header(self, kind: str) -> None:
        assert "at most 1,000,000 pixels" in refuse(encode(Image.new("RGB", (1200, 1000)), kind))

    def test_a_webp_header_that_claims_a_huge_canvas(self) -> None:
        content = bytearray(encode_turned(6, "WEBP"))
        assert content[12:16] == b"VP8X"
        content[24:30] = struct.pack("<I", 16_000_000)[:3] + struct.pack("<I", 200)[:3]
        assert "pixels" in refuse(bytes(content))

    def test_a_gif_frame_larger_than_its_screen(self) -> None:
        content = bytearray(encode(make_scene(), "GIF"))
        at = content.index(b"\x2c")
        content[at + 5 : at + 9] = struct.pack("<HH", 60_000, 60_000)
        assert "pixels" in refuse(bytes(content))

    def test_a_tiff_tile_larger_than_its_image(self) -> None:
        content = make_tiled_tiff(8, 8, 32_768, 32_768)
        assert "pixels" in refuse(content)

    def test_a_jpeg_of_thousands_of_scans(self) -> None:
        content = encode(make_scene(), "JPEG", progressive=True)
        start = content.rindex(b"\xff\xda")
        bomb = content[:start] + content[start:-2] * 500 + content[-2:]
        assert "at most 100 scans" in refuse(bomb)

    def test_scans_behind_segments_that_no_encoder_writes(self) -> None:
        content = encode(make_scene(), "JPEG", progressive=True)
        start = content.rindex(b"\xff\xda")
        comments = b"\xff\xfe\x00\x02" * 20_000
        bomb = content[:start] + comments + content[start:-2] * 500 + content[-2:]
        assert "at most 100 scans" in refuse(bomb)

    def test_scans_behind_a_marker_that_a_decoder_passes_over(self) -> None:
        content = encode(make_scene(), "JPEG", progressive=True)
        start = content.rindex(b"\xff\xda")
        bomb = content[:start] + b"\xff\x02\xff\xff" + content[start:-2] * 500 + content[-2:]
        assert "at most 100 scans" in refuse(bomb)

    def test_a_run_of_fill_bytes_is_read_once(self) -> None:
        content = encode(make_scene(), "JPEG")
        fill = content[:-2] + b"\xff" * 2_000_000 + b"\x00" + b"\xff\xda" * 101
        started_s = time.process_time()
        with contextlib.suppress(InvalidArgument):
            decode(fill, field=FIELD, max_pixels=MAX_PIXELS)
        # Looking at each from every one before it takes hours.
        assert time.process_time() - started_s < 5

    def test_what_stands_behind_a_jpeg_is_none_of_its_scans(self) -> None:
        content = encode(make_scene(), "JPEG", progressive=True)
        film = content + b"\xff\xda\x00\x08" * 1_000
        assert decode(film, field="image", max_pixels=10**6).width == make_scene().width

    def test_nothing_is_allocated_for_a_bomb(self) -> None:
        import tracemalloc

        content = make_png_header(30_000, 30_000)
        tracemalloc.start()
        refuse(content)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1_000_000


class TestNoImages:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"just a few words", "text"),
            (b"\x00\x01\x02\x03" * 8, "an unknown format"),
            (b"%PDF-1.7 and so on", "PDF"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
            (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "HEIC"),
            (b"iVBORw0KGgoAAAANSUhEUg", "base64"),
            (b"/9j/4AAQSkZJRgABAQ", "base64"),
            (b"data:image/png;base64,iVBORw0KGgo", "data: URL"),
        ],
    )
    def test_other_bytes_are_named(self, content: bytes, words: str) -> None:
        message = refuse(content)
        assert "JPEG, PNG, WebP, GIF, BMP or TIFF" in message
        assert words in message

    def test_a_zip_archive(self) -> None:
        file = BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("cat.jpg", encode(make_scene(), "JPEG"))
        assert "a zip archive" in refuse(file.getvalue())

    @pytest.mark.parametrize("kind", ["ICO", "PPM", "PCX", "TGA", "EPS", "SGI", "DDS", "JPEG2000", "AVIF"])
    def test_formats_that_pillow_knows_and_we_do_not(self, kind: str) -> None:
        content = encode(make_scene(), kind)
        with Image.open(BytesIO(content)) as opened:
            assert opened.format == kind
        assert "JPEG, PNG, WebP, GIF, BMP or TIFF" in refuse(content)


class TestDamage:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
    @pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
    def test_truncated_files(self, kind: str, part: float) -> None:
        noise = Image.effect_noise((WIDTH, HEIGHT), 80).convert("RGB")
        content = encode(noise, kind)
        message = refuse(content[: int(len(content) * part)])
        assert "whole" in message
        assert "truncated" in message

    # The service silences Pillow's warnings when it is imported; pytest turns them on again.
    @pytest.mark.filterwarnings("ignore:::PIL")
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
    def test_mutated_files_are_read_or_refused(self, kind: str) -> None:
        """Whatever a damaged file provokes inside Pillow comes out as a refusal."""
        chance = random.Random(7)
        originals = [
            encode(make_scene(), kind),
            encode_turned(6, kind) if kind not in ("GIF", "BMP") else encode(make_scene().quantize(4), kind),
        ]
        for round_ in range(400):
            content = bytearray(originals[round_ % len(originals)])
            for _ in range(chance.choice([1, 2, 8])):
                # Headers are where the decisions lie.
                at = chance.randrange(min(len(content), chance.choice([64, 200, len(content)])))
                content[at] = chance.choice([0, 255, 127, 128, chance.randrange(256)])
            with contextlib.suppress(InvalidArgument):
                decode(bytes(content), field=FIELD, max_pixels=200_000)


def make_png(depth: int, colour: int, samples: "np.ndarray[tuple[int, ...], np.dtype[np.uint16]]") -> bytes:
    """A PNG by hand: Pillow does not write 16-bit colour."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in samples)
    return (
        b"\x89PNG\r\n\x1a\n"
        + make_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
        + make_chunk(b"IDAT", zlib.compress(rows))
        + make_chunk(b"IEND", b"")
    )


def make_png_header(width: int, height: int) -> bytes:
    """A PNG that claims to be large and holds almost nothing."""
    return (
        b"\x89PNG\r\n\x1a\n"
        + make_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + make_chunk(b"IDAT", zlib.compress(bytes(100_000)))
        + make_chunk(b"IEND", b"")
    )


def make_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def make_tiled_tiff(width: int, height: int, tile_width: int, tile_height: int) -> bytes:
    """A TIFF of one Deflate tile that is larger than the image."""
    tile = zlib.compress(bytes(1000))
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8),
        (259, 3, 8),
        (262, 3, 1),
        (277, 3, 1),
        (322, 4, tile_width),
        (323, 4, tile_height),
        (324, 4, 8),
        (325, 4, len(tile)),
    ]
    start = 8 + len(tile) + len(tile) % 2
    entries = b"".join(
        struct.pack("<HHI", tag, kind, 1) + struct.pack("<I", value) for tag, kind, value in tags
    )
    body = tile + b"\x00" * (len(tile) % 2)
    return (
        b"II*\x00"
        + struct.pack("<I", start)
        + body
        + struct.pack("<H", len(tags))
        + entries
        + struct.pack("<I", 0)
    )


def test_what_a_client_sends_writes_no_line_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    tags = [
        (256, 4, 64),
        (257, 4, 64),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 2),
        (273, 4, 8),
        (277, 3, 60_000),
        (278, 4, 64),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    refuse(b"II*\x00" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4))
    assert caplog.records == []
