"""Digits in the database's own format and in the npm package's, and every way in which a file can be wrong."""

import gzip
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from services.vision.training.data.mnist import find_idx, read_idx, read_json
from services.vision.training.data.source import read_source
from shared.training.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 3


def to_idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(to_idx(PIXELS))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(to_idx(LABELS)))
    return tmp_path


def test_idx_files_plain_and_gzipped(folder: Path) -> None:
    files = find_idx(folder)
    assert files is not None
    pictures = read_idx(*files)
    assert np.array_equal(pictures.pixels, PIXELS)
    assert pictures.labels.tolist() == LABELS.tolist()
    assert pictures.classes == ("0", "1", "2")
    assert read_idx(*files, classes=("x", "y", "z")).classes == ("x", "y", "z")
    assert find_idx(folder, "held out") is None
    assert len(read_source(folder, 28, share=0.25).held_out) == 3


def test_the_publishers_division_is_kept(folder: Path) -> None:
    (folder / "t10k-images.idx3-ubyte").write_bytes(to_idx(PIXELS[:3]))
    (folder / "t10k-labels.idx1-ubyte").write_bytes(to_idx(LABELS[:3]))
    source = read_source(folder, 28)
    assert (len(source.train), len(source.held_out), source.divided) == (12, 3, "the publisher")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("images", b"", "0 bytes of another format"),
        ("images", b"PK\x03\x04" + bytes(40), "another format"),
        ("images", to_idx(PIXELS)[:-1], "9408 bytes after the header .12 x 28 x 28., got 9407"),
        ("images", to_idx(PIXELS.astype(np.float32), 0x0D), "type 0x0d with 3 axes"),
        ("images", to_idx(LABELS), "another format|with 1 axes"),
        ("images", b"\x1f\x8b broken", "cannot be read"),
        ("images", to_idx(PIXELS[:11]), "11 labels, as many as train-images-idx3-ubyte has pictures, got 12"),
        ("labels", to_idx(PIXELS), "unsigned bytes with 1 axes, got type 0x08 with 3 axes"),
        ("labels", to_idx(LABELS * 0), "two classes, got one, '0'"),
        ("labels", to_idx(LABELS * 2), "none of '1'"),
    ],
)
def test_a_wrong_file_is_named(folder: Path, name: str, content: bytes, words: str) -> None:
    axes = 3 if name == "images" else 1
    for path in folder.glob(f"train-{name}*"):
        path.unlink()
    (folder / f"train-{name}-idx{axes}-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_source(folder, 28)


def test_one_file_without_the_other(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match="train-images-idx…-ubyte, got only the other file"):
        find_idx(folder)


def test_the_packages_ten_thousand(datasets: Path) -> None:
    pictures = read_json(datasets / "mnist" / "package" / "src" / "digits")
    assert len(pictures) == 10_000
    assert pictures.pixels.shape[1:] == (28, 28)
    assert pictures.pixels.max() == 255
    # Rounded to three places in the file, every byte came back: all 256 values occur.
    assert len(np.unique(pictures.pixels)) == 256
    assert np.bincount(pictures.labels).min() > 800


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        ("{", "another content"),
        ("[1]", "another content"),
        ('{"data": [0.5, 1]}', "a multiple of 784 numbers, got 2"),
        ('{"data": []}', "a multiple of 784 numbers, got 0"),
        (json.dumps({"data": [2.0] * 784}), "numbers from 0 to 1"),
    ],
)
def test_a_damaged_file_of_the_package(tmp_path: Path, content: str | None, words: str) -> None:
    good = json.dumps({"data": [0.5] * 784})
    for digit in range(10):
        (tmp_path / f"{digit}.json").write_text(good)
    assert len(read_json(tmp_path)) == 10
    path = tmp_path / "7.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        read_json(tmp_path)
    assert caught.value.path == path


def test_no_folder_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_source(tmp_path / "nowhere", 28)
    shutil.rmtree(tmp_path / "empty", ignore_errors=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image"):
        read_source(tmp_path / "empty", 28)
