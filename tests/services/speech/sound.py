"""Audio made by the tests: tones, and files of every kind that the service takes."""

import io
import struct

import numpy as np
import soundfile
from numpy.typing import NDArray

# Container, sample format, and how well the samples come back (RMS of the difference, tone at 0.3).
FORMATS = [
    ("WAV", "PCM_U8", 0.01),
    ("WAV", "PCM_16", 1e-3),
    ("WAV", "PCM_24", 1e-3),
    ("WAV", "PCM_32", 1e-3),
    ("WAV", "FLOAT", 1e-3),
    ("WAV", "DOUBLE", 1e-3),
    ("WAV", "ULAW", 0.02),
    ("WAV", "ALAW", 0.02),
    ("FLAC", "PCM_16", 1e-3),
    ("FLAC", "PCM_24", 1e-3),
    ("OGG", "VORBIS", 0.05),
    ("OGG", "OPUS", 0.05),
    ("MP3", "MPEG_LAYER_III", 0.05),
]


def tone(seconds: float, rate_hz: int, *, hz: float = 440.0, peak: float = 0.3) -> NDArray[np.float32]:
    """A sine."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    return (peak * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def encode(
    samples: NDArray[np.float32],
    rate_hz: int,
    container: str = "WAV",
    subtype: str | None = None,
    channels: int = 1,
    **options: object,
) -> bytes:
    """A file of these samples, the same in every channel."""
    file = io.BytesIO()
    columns = np.repeat(samples[:, None], channels, axis=1)
    soundfile.write(file, columns, rate_hz, format=container, subtype=subtype, **options)
    return file.getvalue()


def set_data_length(wav: bytes, length: int) -> bytes:
    """A WAV whose data chunk claims another length."""
    at = wav.index(b"data") + 4
    return wav[:at] + struct.pack("<I", length) + wav[at + 4 :]


def set_flac_frames(flac: bytes, frames: int) -> bytes:
    """A FLAC whose STREAMINFO claims another number of samples (36 bits; 0 = unknown)."""
    field = int.from_bytes(flac[18:26], "big") >> 36 << 36 | frames
    return flac[:18] + field.to_bytes(8, "big") + flac[26:]
