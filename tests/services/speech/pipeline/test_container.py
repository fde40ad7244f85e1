"""Magic numbers, WAV chunks, OGG pages."""

import pytest

from services.speech.pipeline.container import _checksum, check_pages, container_of, declared_ratio
from tests.services.speech.sound import encode, set_data_length, tone

OGG = encode(tone(4.0, 16_000), 16_000, "OGG", "VORBIS")
WAV = encode(tone(1.0, 16_000), 16_000)


@pytest.mark.parametrize(
    ("container", "subtype"),
    [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")],
)
def test_containers_are_told_apart(container, subtype):
    content = encode(tone(0.5, 16_000), 16_000, container, subtype)
    assert container_of(content) == container
    assert container_of(content[:12]) == container


@pytest.mark.parametrize(
    "content", [b"", b"R", b"RIFF", b"RIFF1234AVI ", b"Ogg", b"\xff", b"\xff\xff", b"\xff\xf1\x50\x80"]
)
def test_what_is_none_of_them(content):
    assert container_of(content) == ""


def wanted() -> None:
    """The work is wanted to its end."""


def test_whole_pages():
    assert check_pages(OGG, wanted) == (len(OGG), "")
    assert check_pages(OGG + b"TAG" + bytes(100), wanted) == (len(OGG), "")


@pytest.mark.parametrize("keep", [5, 26, 27, 28, 200])
def test_cut_pages(keep):
    last = OGG.rindex(b"OggS")
    assert check_pages(OGG[: last + keep], wanted)[1].endswith("is cut off")


def test_chained_streams_are_not_half_read():
    end, damage = check_pages(OGG + OGG, wanted)
    assert end == len(OGG)
    assert damage.startswith("another stream begins")


def test_every_changed_bit_is_found():
    for at in range(0, len(OGG), 97):
        damaged = bytearray(OGG)
        damaged[at] ^= 1
        assert check_pages(bytes(damaged), wanted)[1], at


def test_a_walk_over_empty_pages_ends_when_nobody_wants_it_any_more():
    class LeftError(Exception):
        pass

    def left() -> None:
        raise LeftError

    first = OGG[: OGG.index(b"OggS", 1)]
    empty = bytearray(27)
    empty[:4] = b"OggS"
    empty[22:26] = _checksum(bytes(empty)).to_bytes(4, "little")
    flood = first + bytes(empty) * 5_000
    assert check_pages(flood, wanted) == (len(flood), "")
    with pytest.raises(LeftError):
        check_pages(flood, left)


@pytest.mark.parametrize(
    ("content", "ratio"),
    [
        (WAV, 1.0),
        (WAV + bytes(1_000), 1.0),
        (WAV[: 44 + 16_000], 2.0),
        (set_data_length(WAV, 0xFFFFFFFF), 1.0),
        (set_data_length(WAV, 64_000), 2.0),
        (WAV[:44], 1.0),
        (WAV[:20], 1.0),
        (WAV.replace(b"data", b"junk\x03\x00\x00\x00abc\x00data")[: 56 + 16_000], 2.0),
    ],
)
def test_how_much_of_a_wav_is_missing(content, ratio):
    assert declared_ratio(content) == pytest.approx(ratio)
