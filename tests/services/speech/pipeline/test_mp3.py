"""The true length of MP3s whose header lies or is missing."""

import numpy as np
import pytest

from services.speech.pipeline.decoding import decode_file
from services.speech.pipeline.mp3 import count_frames
from shared.errors import InvalidArgument
from tests.services.speech.sound import encode

RATES = [8_000, 11_025, 16_000, 22_050, 44_100, 48_000]


def loud_then_silent(rate_hz: int, turned: bool = False):
    """10 s whose bit rate varies as much as it can: a length guessed from its beginning is far off."""
    noise = np.random.default_rng(0).normal(0, 0.2, rate_hz * 2)
    samples = np.concatenate([noise, np.zeros(rate_hz * 8)]).astype(np.float32)
    return samples[::-1] if turned else samples


def make(rate_hz: int, mode: str, channels: int = 1, turned: bool = False) -> bytes:
    return encode(
        loud_then_silent(rate_hz, turned),
        rate_hz,
        "MP3",
        "MPEG_LAYER_III",
        channels,
        bitrate_mode=mode,
        compression_level=0.5,
    )


def without_length(mp3: bytes) -> bytes:
    """The file without its first frame, which holds nothing but the length."""
    second = mp3.index(mp3[:2], 4)
    while mp3[second + 2] & 0x0C != mp3[2] & 0x0C:
        second = mp3.index(mp3[:2], second + 1)
    return mp3[second:]


def claim_frames(mp3: bytes, frames: int) -> bytes:
    at = next(mp3.find(tag) for tag in (b"Xing", b"Info") if 0 <= mp3.find(tag) < 64) + 8
    return mp3[:at] + frames.to_bytes(4, "big") + mp3[at + 4 :]


def duration_s(content: bytes) -> float:
    return decode_file(content, max_duration_s=60.0, check=lambda: None).duration_s


@pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", RATES)
def test_length_without_a_header(rate_hz, channels, mode):
    for turned in (False, True):
        whole = make(rate_hz, mode, channels, turned)
        assert duration_s(whole) == pytest.approx(10.0, abs=1e-3)
        # Without a header nothing tells delay from sound: up to 0.25 s more.
        assert duration_s(without_length(whole)) == pytest.approx(10.0, abs=0.26)


@pytest.mark.parametrize("frames", [1, 5, 100])
def test_header_that_claims_too_little_is_corrected(frames):
    assert duration_s(claim_frames(make(44_100, "VARIABLE"), frames)) == pytest.approx(10.0, abs=0.26)


@pytest.mark.parametrize("frames", [500, 2**31])
def test_header_that_claims_too_much_is_damage(frames):
    with pytest.raises(InvalidArgument, match=f"declares {frames} frames, but it holds 38"):
        duration_s(claim_frames(make(44_100, "VARIABLE"), frames))


def test_tags_before_and_behind_the_frames():
    tag = b"ID3\x04\x00\x00\x00\x00\x02\x01" + b"\xff\xfb\x90\x44" * 64 + b"\x00"
    mp3 = make(44_100, "VARIABLE")
    for content in (tag + mp3, tag + without_length(mp3), without_length(mp3) + b"TAG" + bytes(125)):
        assert duration_s(content) == pytest.approx(10.0, abs=0.26)


def test_a_lone_header_is_no_frame():
    assert count_frames(b"\xff\xfb\x90\x44" + b"\x55" * 5_000, max_duration_s=10) is None


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfb" * (10 << 20), b"\xff\xfb\x90" * (7 << 20), bytes([0xFF, 0xE3, 0x18, 0xC4]) * (5 << 20)],
    ids=["no header", "headers everywhere", "frames without end"],
)
def test_the_walk_is_bounded(content):
    # 20 MB that try to keep it busy: time is the test's own limit, far above the milliseconds it takes.
    frames = count_frames(content, max_duration_s=600)
    assert frames is None or frames.count * frames.seconds_each < 610
