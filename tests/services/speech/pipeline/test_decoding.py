"""Decoding: every format and rate, lying headers, damage, bad samples, bounds. No model."""

import time
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.speech.pipeline.decoding import Clip, decode_file, decode_samples
from shared.errors import DeadlineExceeded, InvalidArgument
from tests.services.speech.sound import FORMATS, encode, set_data_length, set_flac_frames, tone


def decode(content: bytes, max_duration_s: float = 60.0) -> Clip:
    return decode_file(content, max_duration_s=max_duration_s, check=lambda: None)


def decode_raw(
    content: bytes, dtype: str = "<i2", rate_hz: int = 16_000, channels: int = 1, max_s: float = 60.0
) -> Clip:
    return decode_samples(
        content,
        dtype=np.dtype(dtype),
        rate_hz=rate_hz,
        channels=channels,
        max_duration_s=max_s,
        check=lambda: None,
    )


@pytest.mark.parametrize(("container", "subtype", "tolerance"), FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 48_000])
def test_every_format_comes_back_as_16_khz_mono(container, subtype, tolerance, channels, rate_hz):
    clip = decode(encode(tone(1.0, rate_hz), rate_hz, container, subtype, channels))
    # Lossy codecs keep their delay or padding: up to 0.15 s at 8 kHz.
    assert clip.duration_s == pytest.approx(1.0, abs=0.16 if container in ("MP3", "OGG") else 1e-4)
    assert clip.samples.dtype == np.float32
    assert len(clip.samples) == pytest.approx(clip.duration_s * 16_000, abs=1)
    # The middle, where no codec is still settling; a tone is known by its size and its zero crossings.
    middle = clip.samples[4_000:12_000]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.3 / np.sqrt(2), abs=max(tolerance, 2e-3))
    assert np.sum(np.diff(np.signbit(middle))) == pytest.approx(440, abs=4)


@pytest.mark.parametrize("rate_hz", [4_000, 11_025, 22_050, 44_100, 96_000, 192_000])
def test_other_rates_of_wav(rate_hz):
    clip = decode(encode(tone(0.5, rate_hz), rate_hz))
    assert clip.duration_s == pytest.approx(0.5, abs=1e-3)
    assert len(clip.samples) == pytest.approx(8_000, abs=16)


def test_16_khz_samples_are_not_touched():
    samples = np.array([0.0, 0.5, -0.5, 0.25], np.float32)
    assert decode(encode(samples, 16_000)).samples.tolist() == samples.tolist()


def test_channels_are_averaged():
    left_right = np.array([[8192, 0], [16384, -16384], [0, 4096]], "<i2")
    assert decode_raw(left_right.tobytes(), channels=2).samples.tolist() == [0.125, 0.0, 0.0625]


def test_resampling_in_blocks_is_resampling_at_once():
    import soxr

    # 40 s at 44.1 kHz are seven blocks.
    samples = np.random.default_rng(1).normal(0, 0.1, 40 * 44_100).astype(np.float32)
    clip = decode(encode(samples, 44_100, subtype="FLOAT"))
    whole = soxr.resample(samples, 44_100, 16_000, quality=soxr.HQ)
    assert abs(len(whole) - len(clip.samples)) <= 1
    size = min(len(whole), len(clip.samples))
    np.testing.assert_allclose(clip.samples[:size], whole[:size], atol=1e-5)


@pytest.mark.parametrize(("dtype", "scale"), [("<i2", 32768.0), ("<f4", 1.0)])
def test_raw_samples(dtype, scale):
    raw = (np.array([0.0, 0.5, -1.0]) * scale).astype(dtype).tobytes()
    assert decode_raw(raw, dtype).samples.tolist() == [0.0, 0.5, -1.0]


def test_less_than_one_sample_at_16_khz_is_still_a_clip():
    assert len(decode_raw(np.zeros(1, "<i2").tobytes(), rate_hz=192_000).samples) >= 1


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0xFFFFFFF0, 0x7FFFFFFF, 0x7FFFFFFF - 36, 0x80000000])
def test_wav_of_unknown_length_is_read_to_its_end(length):
    clip = decode(set_data_length(encode(tone(1.0, 16_000), 16_000), length))
    assert clip.duration_s == 1.0


def test_wav_that_claims_less_is_read_so_far():
    assert decode(set_data_length(encode(tone(1.0, 16_000), 16_000), 16_000)).duration_s == 0.5


def test_flac_of_unknown_length_is_read_to_its_end():
    flac = encode(tone(1.0, 16_000), 16_000, "FLAC")
    assert decode(set_flac_frames(flac, 0)).duration_s == 1.0


def test_flac_of_unknown_length_is_stopped_while_decoding():
    flac = set_flac_frames(encode(np.zeros(16_000 * 30, np.float32), 16_000, "FLAC"), 0)
    with pytest.raises(InvalidArgument, match="at most 5 s"):
        decode(flac, max_duration_s=5.0)


@pytest.mark.parametrize(
    "content",
    [
        set_flac_frames(encode(tone(1.0, 16_000), 16_000, "FLAC"), 2**36 - 1),
        encode(tone(6.0, 16_000), 16_000, "FLAC"),
        encode(tone(6.0, 16_000), 16_000),
        encode(tone(6.0, 16_000), 16_000, "OGG", "VORBIS"),
        encode(tone(6.0, 48_000), 48_000, "OGG", "OPUS"),
        encode(tone(6.0, 16_000), 16_000, "MP3"),
    ],
    ids=["flac that claims 49 days", "flac", "wav", "vorbis", "opus", "mp3"],
)
def test_too_long_is_refused(content):
    with pytest.raises(InvalidArgument, match="at most 5 s") as caught:
        decode(content, max_duration_s=5.0)
    assert caught.value.field == "audio.content"


def test_a_long_clip_of_few_bytes_is_refused_at_once():
    # An hour of silence is 330 kB of FLAC.
    flac = encode(np.zeros(16_000 * 3600, np.int16).view(np.int16), 16_000, "FLAC")
    started_s = time.process_time()
    with pytest.raises(InvalidArgument, match=r"3600\.00 s"):
        decode(flac)
    assert time.process_time() - started_s < 0.1


CUT = [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")]


@pytest.mark.parametrize(("container", "subtype"), CUT)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_half_a_file_is_damaged(container, subtype, share):
    whole = encode(tone(4.0, 16_000), 16_000, container, subtype)
    with pytest.raises(InvalidArgument, match="a damaged one"):
        decode(whole[: int(len(whole) * share)])


@pytest.mark.parametrize(("container", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_changed_bytes_are_noticed(container, subtype):
    content = bytearray(encode(tone(4.0, 16_000), 16_000, container, subtype))
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(byte ^ 0x55 for byte in content[middle : middle + 40])
    with pytest.raises(InvalidArgument, match="a damaged one"):
        decode(bytes(content))


@pytest.mark.parametrize(("container", "subtype"), CUT)
def test_bytes_behind_the_end_do_not_matter(container, subtype):
    clip = decode(encode(tone(1.0, 16_000), 16_000, container, subtype) + bytes(5_000))
    assert clip.duration_s == pytest.approx(1.0, abs=0.16)


@pytest.mark.parametrize(
    "content",
    [
        b"\x00",
        b"hello, I am no audio at all" * 10,
        b"\x89PNG\r\n\x1a\n" + bytes(500),
        b"RIFF\x24\x00\x00\x00AVI LIST" + bytes(500),
        b"FORM\x00\x00\x00\x00AIFF" + bytes(500),
        bytes(100_000),
        np.random.default_rng(3).integers(0, 127, 100_000, np.uint8).tobytes(),
    ],
    ids=["one byte", "text", "png", "avi", "aiff", "zeros", "noise"],
)
def test_what_is_no_audio_is_refused(content):
    with pytest.raises(InvalidArgument, match="expected a WAV, FLAC, OGG or MP3 file"):
        decode(content)


@pytest.mark.parametrize(
    "magic",
    [b"RIFF\xff\xff\xff\xffWAVE", b"fLaC", b"OggS", b"ID3\x04\x00\x00\x00\x00\x00\x00", b"\xff\xfb\x90\x44"],
)
@pytest.mark.parametrize("rest", [b"", bytes(50), b"\xfe" * 5_000])
def test_only_the_beginning_of_a_file_is_damaged(magic, rest):
    with pytest.raises(InvalidArgument):
        decode(magic + rest)


@pytest.mark.parametrize(("container", "subtype"), [("WAV", "PCM_16"), ("OGG", "VORBIS")])
def test_file_without_samples(container, subtype):
    with pytest.raises(InvalidArgument, match="at least one sample"):
        decode(encode(np.zeros(0, np.float32), 16_000, container, subtype))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["raw", "wav"])
def test_samples_that_are_not_finite_are_refused(bad, kind):
    samples = tone(1.0, 16_000)
    samples[7_777] = bad
    work = (
        partial(decode_raw, samples.astype("<f4").tobytes(), "<f4")
        if kind == "raw"
        else partial(decode, encode(samples, 16_000, subtype="FLOAT"))
    )
    with pytest.raises(InvalidArgument, match="finite samples"):
        work()


def test_doubles_beyond_floats_are_refused():
    samples = np.full(1_000, 1e300)
    with pytest.raises(InvalidArgument):
        decode(encode(samples, 16_000, subtype="DOUBLE"))


def test_slight_overshoot_is_clipped():
    clip = decode_raw(np.array([1.5, -3.0, 0.5], "<f4").tobytes(), "<f4")
    assert clip.samples.tolist() == [1.0, -1.0, 0.5]


def test_integers_sent_as_floats_are_refused():
    with pytest.raises(InvalidArgument, match="divide integers by their full scale"):
        decode_raw(np.array([0.0, 12_000.0], "<f4").tobytes(), "<f4")


def test_resampling_never_leaves_the_range():
    square = np.sign(tone(1.0, 44_100)).astype(np.float32)
    assert np.abs(decode(encode(square, 44_100, subtype="FLOAT")).samples).max() <= 1.0


def test_shapes_out_of_range_are_refused():
    with pytest.raises(InvalidArgument, match="1 to 8 channels, got 9"):
        decode(encode(tone(0.1, 16_000), 16_000, channels=9))
    with pytest.raises(InvalidArgument, match="samples per second, got 3999"):
        decode(encode(tone(0.1, 3_999), 3_999))
    with pytest.raises(InvalidArgument, match="samples per second, got 192001"):
        decode(encode(tone(0.1, 192_001), 192_001))
    with pytest.raises(InvalidArgument, match="got a WAV of IMA_ADPCM"):
        decode(encode(tone(0.1, 16_000), 16_000, subtype="IMA_ADPCM"))


def test_work_stops_at_the_next_block():
    blocks = 0

    def check() -> None:
        nonlocal blocks
        blocks += 1
        if blocks == 3:
            raise DeadlineExceeded("decoding the clip")

    # 60 s at 16 kHz are four blocks.
    with pytest.raises(DeadlineExceeded):
        decode_file(encode(tone(60.0, 16_000), 16_000), max_duration_s=60.0, check=check)
    assert blocks == 3


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(CUT),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    keep=st.floats(0.05, 1.0),
)
def test_any_damage_is_an_answer_or_a_refusal(kind, changes, keep):
    content = bytearray(encode(tone(0.5, 8_000), 8_000, *kind))
    for at, value in changes:
        content[at % len(content)] = value
    try:
        clip = decode(bytes(content[: int(len(content) * keep)]))
    except InvalidArgument:
        return
    assert np.isfinite(clip.samples).all()
    assert np.abs(clip.samples).max() <= 1.0
    assert 0 < clip.duration_s <= 60.0
