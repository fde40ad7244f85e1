"""From the bytes of a clip to 16 kHz mono samples, block by block, within bounds.

Lives here: opening files with libsndfile, reading raw samples, averaging channels, converting the rate, and the checks
that need decoding. Not here: what can be refused without it (`services.speech.validation`), and what the models do
with the samples.

Everything is done in blocks of a second or so, so that 8 channels at 192 kHz never stand in memory whole, and so that a
header that lies about the length, or a caller who has left, stops the work soon.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from services.speech.pipeline import container, mp3
from shared.errors import InvalidArgument

SAMPLE_RATE_HZ = 16_000  # of every model of this service
MIN_RATE_HZ = 4_000
MAX_RATE_HZ = 192_000
MAX_CHANNELS = 8

# Sample formats inside a WAV file. The compressed telephone formats are left out except the two laws: libsndfile's
# readers for the rest are little used, and a reader of hostile bytes should be small.
_WAV_SUBTYPES = frozenset({"PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"})
# A mix or a lossy codec overshoots full scale by a few dB, and clipping is what any player does; a peak beyond 4 (12 dB)
# is no overshoot but integers that were never divided.
_MAX_PEAK = 4.0
# A clip may end this much before what its header declares: MP3's delay and padding are up to 1105 samples, 0.14 s at 8 kHz.
_MISSING_TOLERANCE_S = 0.25
# libsndfile's answer where a FLAC leaves its length open is the largest 64-bit number.
_UNKNOWN_FRAMES = 1 << 62
# Frames of an MP3 that hold its length, delay and padding rather than the clip.
_MP3_SLACK_FRAMES = 6
_BLOCK_SAMPLES = 1 << 18  # per block over all channels: 1 MiB of floats

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """Mono samples [T] at 16 kHz within -1 to 1, and the clip's length in its own time."""

    samples: Samples
    duration_s: float


def decode_file(content: bytes, *, max_duration_s: float, check: Callable[[], None]) -> Clip:
    """Decode a WAV, FLAC, OGG (Vorbis, Opus) or MP3 file.

    `check` is called before every block and raises when the work is no longer wanted.

    Raises:
        InvalidArgument: no such file, damaged, empty, above `max_duration_s` (as declared or as found), samples that
            are not finite or far beyond full scale, a rate or channel count out of range.
    """
    name = container.container_of(content)
    if not name:
        raise _invalid(
            "a WAV, FLAC, OGG or MP3 file",
            f"{len(content)} bytes that begin like none of them",
            "send such a file, or raw samples with `encoding` and `sample_rate_hz` set",
        )
    content = _completed(content, name, max_duration_s, check)
    try:
        file = _FrontToBack(_Content(content))
    except soundfile.LibsndfileError as error:
        # libsndfile's own words mislead here: it speaks of pipes and missing files.
        raise _damaged(name, "its header cannot be read") from error
    with file:
        _check_shape(file, name)
        declared = file.frames if file.frames < _UNKNOWN_FRAMES else None
        if declared is not None:
            _check_duration(declared / file.samplerate, max_duration_s)
        try:
            clip = _gather(
                _blocks(file, declared, check), rate_hz=file.samplerate, max_duration_s=max_duration_s
            )
        except soundfile.LibsndfileError as error:
            raise _damaged(name, error.error_string.removeprefix("Error : ").rstrip(".")) from error
        declared_s = 0.0 if declared is None else declared / file.samplerate
    if name == "WAV":
        # libsndfile corrects the length of a cut WAV silently.
        declared_s *= container.declared_ratio(content)
    if clip.duration_s < declared_s - _MISSING_TOLERANCE_S:
        raise _damaged(name, f"its header declares {declared_s:.2f} s, but it holds {clip.duration_s:.2f} s")
    return clip


def _completed(content: bytes, name: str, max_duration_s: float, check: Callable[[], None]) -> bytes:
    """Check what a container's own structure tells.

    An OGG comes back without what stands behind it, an MP3 with its true length in its header.
    """
    if name == "OGG":
        end, damage = container.check_pages(content, check)
        if damage:
            raise _damaged(name, damage)
        return content[:end]
    if name != "MP3":
        return content
    frames = mp3.count_frames(content, max_duration_s=max_duration_s)
    if frames is None:
        raise _damaged(name, "it has no MPEG Layer III frame")
    _check_duration((frames.count - _MP3_SLACK_FRAMES) * frames.seconds_each, max_duration_s)
    if frames.cut_off:
        raise _damaged(name, f"its header declares {frames.declared} frames, but it holds {frames.count}")
    return mp3.with_length(content, frames)


def decode_samples(
    content: bytes,
    *,
    dtype: np.dtype[np.int16] | np.dtype[np.float32],
    rate_hz: int,
    channels: int,
    max_duration_s: float,
    check: Callable[[], None],
) -> Clip:
    """Read raw interleaved little-endian samples; `content` holds whole frames of `channels` samples of `dtype`.

    Raises:
        InvalidArgument: above `max_duration_s`, samples that are not finite or far beyond full scale.
    """
    frames = np.frombuffer(content, dtype).reshape(-1, channels)
    _check_duration(len(frames) / rate_hz, max_duration_s)

    def blocks() -> Iterator[Samples]:
        step = max(1, _BLOCK_SAMPLES // channels)
        for start in range(0, len(frames), step):
            check()
            block = frames[start : start + step].astype(np.float32)
            yield block / np.float32(32768) if dtype.kind == "i" else block

    return _gather(blocks(), rate_hz=rate_hz, max_duration_s=max_duration_s)


class _Content(io.BytesIO):
    """The file's bytes for libsndfile, which asks for impossible places when a header lies."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move as asked, but never before the start, where BytesIO would raise inside a C callback."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: len(self.getbuffer())}[whence]
        return super().seek(max(0, start + offset))


class _FrontToBack(soundfile.SoundFile):  # type: ignore[misc]  # soundfile carries no types
    """A file that is read from front to back only.

    `soundfile` seeks after every block of a seekable file, to keep its read and write positions equal. That costs a
    search in compressed files and fails on a FLAC whose header leaves the length open.
    """

    def seekable(self) -> bool:
        """Say no."""
        return False


def _blocks(file: _FrontToBack, declared: int | None, check: Callable[[], None]) -> Iterator[Samples]:
    """Read to the declared end and not beyond, where FLAC's decoder takes a tag or zeros for damage."""
    remaining = _UNKNOWN_FRAMES if declared is None else declared
    while remaining > 0:
        check()
        block: Samples = file.read(
            min(remaining, max(1, _BLOCK_SAMPLES // file.channels)), dtype="float32", always_2d=True
        )
        if not len(block):
            return
        remaining -= len(block)
        yield block


def _gather(blocks: Iterator[Samples], *, rate_hz: int, max_duration_s: float) -> Clip:
    """Average the channels of each block [N, C], convert the rate and join; counts what really comes."""
    converter = None
    if rate_hz != SAMPLE_RATE_HZ:
        converter = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality=soxr.HQ)
    parts: list[Samples] = []
    frames = 0
    for block in blocks:
        _check_samples(block)
        frames += len(block)
        _check_duration(frames / rate_hz, max_duration_s)
        mono = np.clip(block, -1.0, 1.0).mean(axis=1, dtype=np.float32)
        parts.append(mono if converter is None else converter.resample_chunk(mono))
    if not frames:
        raise _invalid("at least one sample", "none (a WAV whose header was never completed declares none)")
    if converter is not None:
        parts.append(converter.resample_chunk(np.zeros(0, np.float32), last=True))
    samples = np.concatenate(parts)
    if not len(samples):
        # A few samples at a high rate are less than one at 16 kHz.
        samples = np.zeros(1, np.float32)
    # A resampler overshoots at steep edges.
    return Clip(np.clip(samples, -1.0, 1.0, out=samples), frames / rate_hz)


def _check_shape(file: _FrontToBack, container_name: str) -> None:
    if container_name == "WAV" and file.subtype not in _WAV_SUBTYPES:
        raise _invalid("a WAV of 8 to 32-bit integers, floats, mu-law or A-law", f"a WAV of {file.subtype}")
    if container_name == "MP3" and file.subtype != "MPEG_LAYER_III":
        raise _invalid("an MPEG Layer III file", f"{file.subtype}", "convert the clip")
    if not MIN_RATE_HZ <= file.samplerate <= MAX_RATE_HZ:
        raise _invalid(
            f"{MIN_RATE_HZ} to {MAX_RATE_HZ} samples per second", f"{file.samplerate}", "convert the clip"
        )
    if not 1 <= file.channels <= MAX_CHANNELS:
        raise _invalid(f"1 to {MAX_CHANNELS} channels", f"{file.channels}", "mix the clip down")


def _check_duration(duration_s: float, max_duration_s: float) -> None:
    if duration_s > max_duration_s:
        raise _invalid(
            f"a clip of at most {max_duration_s:g} s",
            f"{duration_s:.2f} s or more",
            "cut it into shorter clips",
        )


def _check_samples(block: Samples) -> None:
    # One pass finds both: a NaN anywhere makes the maximum NaN.
    peak = float(np.max(np.abs(block)))
    if not np.isfinite(peak):
        raise _invalid("finite samples", "NaN or infinity among them")
    if peak > _MAX_PEAK:
        raise _invalid(
            "samples from -1 to 1",
            f"a sample of magnitude {peak:.4g}",
            "divide integers by their full scale, e.g. 32768, or send them as PCM_S16LE",
        )


def _damaged(container_name: str, reason: str) -> InvalidArgument:
    return _invalid(
        f"a whole {container_name} file", f"a damaged one: {reason}", "send the clip again or convert it anew"
    )


def _invalid(expected: str, got: str, fix: str = "") -> InvalidArgument:
    return InvalidArgument("audio.content", expected=expected, got=got, fix=fix)
