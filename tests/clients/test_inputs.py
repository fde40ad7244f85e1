"""What callers hand over becomes the right bytes; what is none of it is refused before anything is sent."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sensorium import Pcm
from sensorium.calls.plan import as_list
from sensorium.inputs import read_audio, read_image
from sensorium.speech.v1 import speech_service_pb2


def decode(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_files_go_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"content")
    with path.open("rb") as stream:
        for image in (path, str(path), b"content", bytearray(b"content"), memoryview(b"content"), stream):
            assert read_image(image) == b"content"
    assert read_audio(path) == speech_service_pb2.Audio(content=b"content")


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4), (1, 1, 3)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_arrays_survive_the_png(shape: tuple[int, ...], kind: type) -> None:
    array = np.random.default_rng(7).integers(0, np.iinfo(kind).max, shape).astype(kind)
    content = read_image(array)
    expected = array[..., 0] if shape[2:] == (1,) else array
    if kind is np.uint8:
        assert np.array_equal(decode(content), expected)
    elif expected.ndim == 2:
        assert np.array_equal(decode(content).astype(np.uint16), expected)
    else:
        # Pillow reads 16-bit colour at 8 bits.
        assert np.array_equal(decode(content), (expected >> 8).astype(np.uint8))


def test_a_view_that_is_not_contiguous() -> None:
    array = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)[::-1, ::2]
    assert np.array_equal(decode(read_image(array)), array)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((2, 2, 3), np.float32), "multiply by 255"),
        (np.zeros((2, 2, 2), np.uint8), r"got \(2, 2, 2\)"),
        (np.zeros((1, 2, 2, 3), np.uint8), "as a list"),
        (np.zeros((0, 2, 3), np.uint8), "at least one pixel"),
        (np.zeros((2, 2), np.int64), "int64"),
    ],
)
def test_arrays_that_are_no_image(array: np.ndarray, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_image(array)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "F", "I"])
def test_pil_images_of_every_mode(mode: str) -> None:
    image = Image.new("L" if mode == "P" else mode, (6, 4)).convert(mode)
    assert Image.open(io.BytesIO(read_image(image))).size == (6, 4)


def test_a_pil_image_keeps_its_orientation() -> None:
    image = Image.new("RGB", (6, 4))
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    image.save(stream, "JPEG", exif=exif)
    sent = Image.open(io.BytesIO(read_image(Image.open(stream))))
    assert sent.getexif()[0x0112] == 6


def test_samples_become_raw_audio() -> None:
    floats = read_audio((np.array([0.0, 0.5, -1.0]), 16_000))
    assert np.array_equal(np.frombuffer(floats.content, "<f4"), [0.0, 0.5, -1.0])
    assert (floats.sample_rate_hz, floats.channel_count) == (16_000, 1)
    assert floats.encoding == speech_service_pb2.Audio.ENCODING_PCM_F32LE
    stereo = read_audio((np.array([[1, 2], [3, 4]], ">i2"), np.int64(8_000)))
    assert (stereo.content, stereo.channel_count) == (b"\1\0\2\0\3\0\4\0", 2)
    assert read_audio(([0.0, 0.5], 8_000)).content == np.array([0, 0.5], "<f4").tobytes()
    pcm = read_audio(Pcm(b"\0\0", 8_000, channel_count=1))
    assert pcm.encoding == speech_service_pb2.Audio.ENCODING_PCM_S16LE


@pytest.mark.parametrize(
    ("audio", "says"),
    [
        (np.zeros(4), "pass \\(samples, rate\\)"),
        ((np.zeros(4), 16_000.0), "whole number"),
        ((np.zeros((2, 16_000)), 16_000), "transpose"),
        ((np.zeros(4, np.int64), 16_000), "int64"),
        ((b"\0\0", 16_000), "Pcm"),
        (Pcm(b"", 8_000, "mulaw"), "s16le or f32le"),
        (7, "a path, bytes"),
    ],
)
def test_what_is_no_audio(audio: object, says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        read_audio(audio)  # type: ignore[arg-type]


def test_what_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="expected a path, bytes"):
        read_image(7)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "nothing")
    with pytest.raises(TypeError, match="binary mode"):
        read_image(io.StringIO("text"))  # type: ignore[arg-type]


def test_one_or_many() -> None:
    samples, image = np.zeros(4), np.zeros((2, 2), np.uint8)
    assert as_list("a") == (["a"], False)
    assert as_list(["a"]) == (["a"], True)
    assert as_list(("a", "b")) == (["a", "b"], True)
    assert as_list((samples, 16_000))[1] is False
    assert as_list((samples, np.int32(16_000)))[1] is False
    assert as_list((image, image))[1] is True
    assert as_list([(samples, 16_000)])[1] is True


def test_the_client_loads_neither_numpy_nor_pil_nor_tensors() -> None:
    code = (
        "import sys\nfrom sensorium import Client, AsyncClient, errors\n"
        "loaded = [name for name in ('numpy', 'PIL', 'sensorium.oip') if name in sys.modules]\nassert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
