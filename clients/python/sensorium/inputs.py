"""What callers hand over, turned into the bytes of a request. numpy and PIL are recognised, never imported.

An image is a path, bytes, an open binary file, a numpy array [height, width] or [height, width, 1, 3 or 4] of uint8 or
uint16 in RGB(A) order, or a PIL image. A clip is a path, bytes, an open binary file, a pair (samples, rate), or `Pcm`.
"""

import array
import os
import struct
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeAlias

from sensorium.speech.v1 import speech_service_pb2 as speech_pb2

if TYPE_CHECKING:
    from typing import TypeGuard


class Array(Protocol):
    """What is used of a numpy array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def dtype(self) -> Any:
        """Kind of its elements."""

    def astype(self, dtype: Any) -> Any:
        """A copy with another kind of elements."""

    def tobytes(self) -> bytes:
        """Its elements, last axis first."""


class PilImage(Protocol):
    """What is used of a PIL image."""

    mode: str

    def save(self, fp: Any, *arguments: Any, **options: Any) -> None:
        """Writes it."""

    def convert(self, mode: str) -> "PilImage":
        """A copy with other channels."""


@dataclass(frozen=True)
class Pcm:
    """Raw samples: `encoding` is `s16le` or `f32le`, channels interleaved."""

    content: bytes
    sample_rate_hz: int
    encoding: str = "s16le"
    channel_count: int = 1


File: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
Image: TypeAlias = File | Array | PilImage
Audio: TypeAlias = File | Pcm | tuple[Array | Sequence[float], int]

_ENCODINGS = {"s16le": speech_pb2.Audio.ENCODING_PCM_S16LE, "f32le": speech_pb2.Audio.ENCODING_PCM_F32LE}
# Modes that PNG can hold as they are.
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_PNG_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}  # channels -> PNG's number for grey, RGB, RGBA


def read_image(image: Image) -> bytes:
    """The encoded file of an image.

    Raises:
        TypeError, ValueError: it is none of the kinds above.
        OSError: the file cannot be read.
    """
    if _is_file(image):
        return _read(image)
    if callable(getattr(image, "getbands", None)):
        return _encode_pil(image)
    if _is_array(image):
        return _encode_png(image)
    kinds = "a path, bytes, an open binary file, a numpy array or a PIL image"
    raise TypeError(f"image: expected {kinds}, got {type(image).__name__}")


def read_audio(audio: Audio) -> speech_pb2.Audio:
    """The request's message for a clip.

    Raises:
        TypeError, ValueError: it is none of the kinds above.
        OSError: the file cannot be read.
    """
    if isinstance(audio, Pcm):
        if audio.encoding not in _ENCODINGS:
            raise ValueError(f"encoding: expected {' or '.join(_ENCODINGS)}, got {audio.encoding!r}")
        return speech_pb2.Audio(
            content=audio.content,
            encoding=_ENCODINGS[audio.encoding],
            sample_rate_hz=audio.sample_rate_hz,
            channel_count=audio.channel_count,
        )
    if isinstance(audio, tuple):
        return _encode_samples(audio)
    if _is_file(audio):
        return speech_pb2.Audio(content=_read(audio))
    if _is_array(audio):
        raise TypeError("audio: an array needs its rate: pass (samples, rate)")
    kinds = "a path, bytes, an open binary file, (samples, rate) or Pcm"
    raise TypeError(f"audio: expected {kinds}, got {type(audio).__name__}")


def _is_file(value: object) -> "TypeGuard[File]":
    return isinstance(value, str | os.PathLike | bytes | bytearray | memoryview) or callable(
        getattr(value, "read", None)
    )


def _is_array(value: object) -> "TypeGuard[Array]":
    return hasattr(value, "__array_interface__") and hasattr(value, "dtype")


def _read(source: File) -> bytes:
    if isinstance(source, str | os.PathLike):
        return Path(source).read_bytes()
    if isinstance(source, bytes):
        return source
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    content = source.read()
    if not isinstance(content, bytes):
        raise TypeError(f"file: expected one opened in binary mode, its read() gave {type(content).__name__}")
    return content


def _encode_pil(image: Any) -> bytes:
    stream = BytesIO()
    exif = image.getexif()
    if image.mode not in _PNG_MODES:
        image = image.convert("RGB")
    # The orientation of a photo is in its EXIF: it goes along, so that a path and its opened image mean the same.
    options = {"exif": exif.tobytes()} if len(exif) else {}
    image.save(stream, "PNG", compress_level=1, **options)
    return stream.getvalue()


def _encode_png(image: Array) -> bytes:
    shape = image.shape
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3 or shape[2] not in _PNG_COLOUR_TYPES:
        hint = "; pass several images as a list" if len(shape) == 4 else ""
        raise ValueError(
            f"image: expected an array [height, width] or [height, width, 1, 3 or 4], got {image.shape}{hint}"
        )
    height, width, channels = shape
    if height == 0 or width == 0:
        raise ValueError(f"image: expected at least one pixel, got {image.shape}")
    kind = str(image.dtype.name)
    if kind not in ("uint8", "uint16"):
        hint = "; multiply by 255 and convert if it goes from 0 to 1" if "float" in kind else ""
        raise ValueError(f"image: expected elements of uint8 or uint16, got {kind}{hint}")
    depth = 8 if kind == "uint8" else 16
    # PNG is big-endian; every row begins with the number of its filter, 0 = none.
    pixels = image.tobytes() if depth == 8 else image.astype(">u2").tobytes()
    stride = width * channels * depth // 8
    rows = b"".join(b"\0" + pixels[at : at + stride] for at in range(0, len(pixels), stride))
    header = struct.pack(">IIBBBBB", width, height, depth, _PNG_COLOUR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def _encode_samples(audio: tuple[Any, ...]) -> speech_pb2.Audio:
    if len(audio) != 2 or isinstance(audio[1], bool) or not hasattr(audio[1], "__index__"):
        raise TypeError(
            "audio: expected a pair (samples, rate) with the rate as a whole number of samples per second"
        )
    samples, rate = audio[0], int(audio[1])
    if not _is_array(samples):
        if isinstance(samples, bytes | bytearray | memoryview | str):
            raise TypeError(
                "audio: raw bytes need their encoding: pass sensorium.Pcm(content, rate, encoding)"
            )
        floats = array.array("f", samples)
        if sys.byteorder == "big":
            floats.byteswap()
        return _raw(floats.tobytes(), "f32le", rate, 1)
    shape = samples.shape
    if len(shape) not in (1, 2):
        raise ValueError(f"audio: expected samples [n] or [n, channels], got {shape}")
    channels = shape[1] if len(shape) == 2 else 1
    if not 1 <= channels <= 8:
        hint = "; transpose it" if 1 <= shape[0] <= 8 else ""
        raise ValueError(f"audio: expected samples [n, 1 to 8 channels], got {shape}{hint}")
    kind = str(samples.dtype.name)
    if kind == "int16":
        return _raw(samples.astype("<i2").tobytes(), "s16le", rate, channels)
    if kind.startswith("float"):
        return _raw(samples.astype("<f4").tobytes(), "f32le", rate, channels)
    raise ValueError(f"audio: expected samples of int16, or of floats from -1 to 1, got {kind}")


def _raw(content: bytes, encoding: str, rate: int, channels: int) -> speech_pb2.Audio:
    return read_audio(Pcm(content, rate, encoding, channels))
