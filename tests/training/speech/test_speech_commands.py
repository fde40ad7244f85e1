"""Speech Commands' published folder format, on small files of it made here."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from services.speech.training.data.speech_commands import read_splits, speaker_of, split_by_speaker
from shared.training.errors import DataError


def write(path: Path, hz: float = 440.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.3 * np.sin(2 * np.pi * hz * np.arange(16_000) / 16_000)
    soundfile.write(path, samples, 16_000, subtype="PCM_16")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for word in ("yes", "no"):
        for speaker in ("aaaa", "bbbb", "cccc"):
            for take in (0, 1):
                write(tmp_path / word / f"{speaker}_nohash_{take}.wav")
    write(tmp_path / "_background_noise_" / "pink_noise.wav")
    (tmp_path / "validation_list.txt").write_text("yes/bbbb_nohash_0.wav\nno/bbbb_nohash_0.wav\n")
    (tmp_path / "testing_list.txt").write_text("yes/cccc_nohash_0.wav\n")
    return tmp_path


def test_reads_the_three_parts_and_the_noise(folder):
    splits = read_splits(folder)
    assert {(clip.label, clip.name) for clip in splits.validation} == {
        ("yes", "yes/bbbb_nohash_0.wav"),
        ("no", "no/bbbb_nohash_0.wav"),
    }
    assert [clip.name for clip in splits.test] == ["yes/cccc_nohash_0.wav"]
    assert len(splits.train) == 12 - 3
    assert {clip.voice for clip in splits.train} == {"aaaa", "bbbb", "cccc"}
    # Brought to 8 kHz; noise is no word.
    assert {len(clip.samples) for clip in splits.train} == {8_000}
    assert [len(samples) for samples in splits.background] == [8_000]


def test_without_lists_a_speaker_is_in_one_part_only(folder):
    (folder / "validation_list.txt").unlink()
    (folder / "testing_list.txt").unlink()
    splits = read_splits(folder)
    parts = {part: {clip.voice for clip in getattr(splits, part)} for part in ("train", "validation", "test")}
    assert sum(len(voices) for voices in parts.values()) == 3
    # The share that the set's README promises, a tenth each.
    found = [split_by_speaker(f"{number:08x}_nohash_0.wav") for number in range(4_000)]
    assert 0.08 < found.count("validation") / 4_000 < 0.12
    assert 0.08 < found.count("test") / 4_000 < 0.12


def test_the_published_hash():
    assert speaker_of("bb05582b_nohash_3.wav") == "bb05582b"
    # Whichever take, the same part.
    assert len({split_by_speaker(f"bb05582b_nohash_{take}.wav") for take in range(5)}) == 1


def test_a_limit_is_by_word(folder):
    assert len(read_splits(folder, limit=2).train) == 4


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "validation_list.txt").write_text("yes/nobody.wav\n"), "yes/nobody.wav"),
        (lambda folder: (folder / "validation_list.txt").write_bytes(b"\xff\xfe\x00"), "no text"),
        (
            lambda folder: (folder / "yes" / "aaaa_nohash_0.wav").write_bytes(b"RIFFnonsense"),
            "aaaa_nohash_0.wav",
        ),
        (lambda folder: (folder / "yes" / "aaaa_nohash_0.wav").write_bytes(b""), "aaaa_nohash_0.wav"),
        (lambda folder: [path.unlink() for path in (folder / "no").glob("*")], "no/bbbb_nohash_0.wav"),
    ],
    ids=["strange file in list", "list is no text", "damaged", "empty file", "lists name what is gone"],
)
def test_bad_folders_say_what_is_wrong(folder, spoil, told):
    spoil(folder)
    with pytest.raises(DataError, match="expected") as caught:
        read_splits(folder)
    assert told in str(caught.value)


def test_empty_and_one_word(tmp_path):
    with pytest.raises(DataError, match="got nothing"):
        read_splits(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_splits(tmp_path / "missing")
    for take in range(3):
        write(tmp_path / "yes" / f"aaaa_nohash_{take}.wav")
    (tmp_path / "validation_list.txt").write_text("")
    with pytest.raises(DataError, match="one label, 'yes'"):
        read_splits(tmp_path)


def test_a_word_that_is_only_tested(folder):
    (folder / "testing_list.txt").write_text(
        "".join(
            f"no/{path.name}\n"
            for path in sorted((folder / "no").iterdir())
            if "bbbb_nohash_0" not in path.name
        )
    )
    (folder / "validation_list.txt").write_text("no/bbbb_nohash_0.wav\n")
    write(folder / "up" / "aaaa_nohash_0.wav")
    with pytest.raises(DataError, match="also trained on, got no"):
        read_splits(folder)
