"""Any folder of images, and every way in which one can be wrong."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.vision.training.data.folder import list_images, read_folder
from services.vision.training.data.source import read_source
from shared.training.errors import DataError


def save(path: Path, color: tuple[int, int, int], size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, several formats, one file deeper down, and files that are no images."""
    root = tmp_path / "photos"
    for index in range(4):
        save(root / "red" / f"{index}.png", (200 + index, 0, 0))
        save(root / "green" / f"{index}.jpg", (0, 200, 0))
    save(root / "green" / "more" / "x.webp", (0, 210, 0))
    save(root / "green" / "y.BMP", (0, 220, 0))
    (root / "green" / "notes.txt").write_text("no image")
    save(root / ".cache" / "hidden.png", (1, 1, 1))
    return root


def test_one_folder_a_class(folder: Path) -> None:
    pictures = read_folder(folder, 16)
    assert pictures.classes == ("green", "red")
    assert np.bincount(pictures.labels).tolist() == [6, 4]
    assert pictures.pixels.shape == (10, 16, 16, 3)
    assert pictures.pixels[pictures.labels == 1].mean(axis=(0, 1, 2)).round().tolist() == [202, 0, 0]
    assert pictures.names[-1] == "red/3.png"
    assert pictures.sha256 == read_folder(folder, 16).sha256


def test_a_limit_decodes_no_more_than_it_takes(folder: Path) -> None:
    (folder / "red" / "3.png").write_bytes(b"not an image")
    assert len(read_folder(folder, 8, limit=4)) == 4


def test_labels_in_a_file(folder: Path) -> None:
    (folder / "labels.csv").write_text(
        "\ufefflabel,file,remark\nwarm,red/0.png,\nwarm,red/1.png,x\ncold,green/0.jpg,\n"
    )
    pictures = read_folder(folder, 8)
    assert pictures.classes == ("cold", "warm")
    assert pictures.names == ("green/0.jpg", "red/0.png", "red/1.png")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "the columns file and label, got nothing"),
        ("name,label\na.png,x\n", "got name, label"),
        ("red/0.png,x\nred/1.png,y\n", "got red/0.png, x; the first line must be `file,label`"),
        ("file,label\n", "a line for each image, got none"),
        ("file,label\nred/0.png,\n", "one of them in line 2"),
        ("file,label\nred/0.png,x\nred/9.png,y\n", r"'red/9.png' in line 3, which is not there"),
        ("file,label\n../../etc/passwd,x\n", "which is not there"),
        ("file,label\nred/0.png,x\nred/0.png,y\n", "in the lines 2 and 3"),
        (b"file,label\n\xff\xfe,x\n", "another content"),
        ("file,label\nred/0.png,x\nred/1.png,x\n", "two classes, got one, 'x'"),
    ],
)
def test_a_wrong_labels_file(folder: Path, content: str | bytes, words: str) -> None:
    path = folder / "labels.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=words):
        read_folder(folder, 8)


def test_no_folder_no_image_no_class_one_class(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: expected a folder of images, got no such folder; give"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"0\.png: expected a folder of images, got a file; give"):
        read_source(folder / "red" / "0.png", 8)
    empty = tmp_path / "empty"
    (empty / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match="expected folders of images, got no image"):
        read_folder(empty, 8)
    save(empty / "loose.png", (1, 2, 3))
    with pytest.raises(DataError, match="got 1 images without a class"):
        read_folder(empty, 8)
    save(empty / "cat" / "1.png", (1, 2, 3))
    with pytest.raises(DataError, match="at least two classes, got one, 'cat'"):
        read_folder(empty, 8)


@pytest.mark.parametrize("damage", [b"", b"not an image", None], ids=["empty", "text", "cut off"])
def test_a_damaged_image_is_named(folder: Path, damage: bytes | None) -> None:
    path = folder / "red" / "2.png"
    path.write_bytes(path.read_bytes()[:60] if damage is None else damage)
    with pytest.raises(DataError, match=r"red/2\.png: cannot be read as a picture: expected ") as caught:
        read_folder(folder, 8)
    assert str(caught.value).endswith("; repair or remove it")
    assert not re.search("send|another file", str(caught.value))


def test_parts_that_the_folder_has_are_kept(folder: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    for part in ("train", "test"):
        for name in ("a", "b"):
            save(both / part / name / "1.png", (9, 9, 9))
    source = read_source(both, 8)
    assert (len(source.train), len(source.held_out), source.divided) == (2, 2, "the folder test")
    save(both / "test" / "c" / "1.png", (9, 9, 9))
    with pytest.raises(DataError, match="expected the classes a, b, got 'c'"):
        read_source(both, 8)
    source = read_source(folder, 8, share=0.25)
    assert (len(source.train), len(source.held_out)) == (7, 3)


def test_parts_are_found_by_any_of_their_names_and_not_taken_for_classes(tmp_path: Path) -> None:
    for part, names in (("Training", "ab"), ("Testing", "ab"), ("other", "a")):
        for name in names:
            save(tmp_path / "both" / part / name / "1.png", (9, 9, 9))
            save(tmp_path / "one" / part.replace("Testing", "hidden") / name / "1.png", (9, 9, 9))
    assert read_source(tmp_path / "both", 8).divided == "the folder Testing"
    with pytest.raises(DataError, match="got Training alone; name the other one so"):
        read_source(tmp_path / "one", 8)
    # Pictures of trains are a class.
    for name in ("bus", "train"):
        for index in range(3):
            save(tmp_path / "vehicles" / name / f"{index}.png", (9, 9, 9))
    assert read_source(tmp_path / "vehicles", 8).train.classes == ("bus", "train")


def test_three_of_each_class_are_needed_to_divide(folder: Path) -> None:
    for index in range(2):
        (folder / "red" / f"{index}.png").unlink()
    wanted = (
        "at least 3 pictures of each class, to learn from, to tune on and to judge by, got 2 of 'red'; add"
    )
    with pytest.raises(DataError, match=wanted):
        read_source(folder, 8)
