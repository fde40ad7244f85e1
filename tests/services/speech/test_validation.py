"""What is refused of a request before anything is decoded."""

import pytest
from sensorium.speech.v1 import speech_service_pb2 as pb

from services.speech.limits import Bounds, describe
from services.speech.validation import (
    RawFormat,
    check_audio,
    check_language,
    check_max_results,
    check_threshold,
)
from shared.errors import InvalidArgument, InvalidArguments

BOUNDS = Bounds(max_audio_s=10, max_audio_bytes=1_000)
S16, F32 = pb.Audio.ENCODING_PCM_S16LE, pb.Audio.ENCODING_PCM_F32LE


def fields(audio: pb.Audio) -> list[str]:
    """The fields that are complained about."""
    with pytest.raises((InvalidArgument, InvalidArguments)) as caught:
        check_audio(audio, BOUNDS)
    error = caught.value
    return [item.field for item in error.violations] if isinstance(error, InvalidArguments) else [error.field]


def test_file():
    assert check_audio(pb.Audio(content=b"x"), BOUNDS) is None
    assert check_audio(pb.Audio(content=bytes(1_000)), BOUNDS) is None


@pytest.mark.parametrize(("encoding", "size", "kind"), [(S16, 2, "<i2"), (F32, 4, "<f4")])
def test_raw_samples(encoding, size, kind):
    assert check_audio(
        pb.Audio(content=bytes(size), encoding=encoding, sample_rate_hz=4_000), BOUNDS
    ) == RawFormat(kind, 4_000, 1)
    stereo = pb.Audio(content=bytes(size * 2), encoding=encoding, sample_rate_hz=192_000, channel_count=2)
    assert check_audio(stereo, BOUNDS) == RawFormat(kind, 192_000, 2)


@pytest.mark.parametrize(
    ("audio", "wrong"),
    [
        (pb.Audio(), ["audio.content"]),
        (pb.Audio(content=bytes(1_001)), ["audio.content"]),
        (pb.Audio(content=b"x", sample_rate_hz=16_000), ["audio.sample_rate_hz"]),
        (
            pb.Audio(content=b"x", sample_rate_hz=16_000, channel_count=1),
            ["audio.sample_rate_hz", "audio.channel_count"],
        ),
        (pb.Audio(content=b"xx", encoding=S16), ["audio.sample_rate_hz"]),
        (pb.Audio(content=b"xx", encoding=S16, sample_rate_hz=3_999), ["audio.sample_rate_hz"]),
        (pb.Audio(content=b"xx", encoding=S16, sample_rate_hz=192_001), ["audio.sample_rate_hz"]),
        (pb.Audio(content=b"xx", encoding=S16, sample_rate_hz=-16_000), ["audio.sample_rate_hz"]),
        (
            pb.Audio(content=b"xx", encoding=S16, sample_rate_hz=16_000, channel_count=9),
            ["audio.channel_count"],
        ),
        (
            pb.Audio(content=b"xx", encoding=S16, sample_rate_hz=16_000, channel_count=-1),
            ["audio.channel_count"],
        ),
        (pb.Audio(content=b"xxx", encoding=S16, sample_rate_hz=16_000), ["audio.content"]),
        (pb.Audio(content=b"xx", encoding=F32, sample_rate_hz=16_000), ["audio.content"]),
        (pb.Audio(content=b"xx", encoding=S16, sample_rate_hz=16_000, channel_count=2), ["audio.content"]),
        (pb.Audio(content=b"x", encoding=7), ["audio.encoding"]),
        (
            pb.Audio(encoding=S16, channel_count=10),
            ["audio.content", "audio.sample_rate_hz", "audio.channel_count"],
        ),
    ],
)
def test_what_is_wrong_is_named_all_at_once(audio, wrong):
    assert fields(audio) == wrong


@pytest.mark.parametrize("tag", ["", "en", "EN", "en-US", "en-gb", "en-Latn-GB"])
def test_known_languages(tag):
    assert check_language(tag, ("en",)) == "en"


@pytest.mark.parametrize("tag", ["de", "english", "en_US", "e", "-en", " en", "und", "\x00"])
def test_other_languages_are_refused_with_the_known_ones(tag):
    with pytest.raises(InvalidArgument, match="one of the model's languages: en, fr") as caught:
        check_language(tag, ("en", "fr"))
    assert caught.value.field == "language"


@pytest.mark.parametrize("threshold", [0.001, 0.5, 0.999])
def test_threshold(threshold):
    assert check_threshold(pb.DetectSpeechRequest(threshold=threshold)) == pytest.approx(threshold)
    assert check_threshold(pb.DetectSpeechRequest()) is None


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.5, 7.0, float("nan"), float("inf"), float("-inf")])
def test_threshold_out_of_range(threshold):
    with pytest.raises(InvalidArgument, match="above 0 and below 1"):
        check_threshold(pb.DetectSpeechRequest(threshold=threshold))


@pytest.mark.parametrize(("asked", "taken"), [(0, 5), (1, 1), (100, 100)])
def test_max_results(asked, taken):
    assert check_max_results(asked) == taken


@pytest.mark.parametrize("asked", [-1, 101, 2**31 - 1])
def test_max_results_out_of_range(asked):
    with pytest.raises(InvalidArgument, match="1 to 100, or 0 for 5"):
        check_max_results(asked)


def test_limits_are_told():
    limits = describe(BOUNDS, 5_000)
    assert [item.method.rpartition("/")[2] for item in limits] == [
        "Transcribe",
        "DetectSpeech",
        "RecognizeCommand",
        "EmbedSpeaker",
    ]
    for item in limits:
        assert item.max_audio.ToTimedelta().total_seconds() == 10
        assert (item.max_message_bytes, item.max_item_bytes, item.max_items) == (5_000, 1_000, 1)


def test_default_clip_fits_the_default_message():
    from shared.rpc.settings import RpcSettings

    assert Bounds().max_audio_bytes < RpcSettings().max_message_bytes
