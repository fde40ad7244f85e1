"""Any folder of image files: one folder for each class (`cat/1.png`, `dog/2.jpg`), or files of any arrangement named by a
`labels.csv` with the columns `file` and `label`.

Files are decoded and cropped as the service does with a client's, so that training sees what serving will.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from services.vision.decode import decode
from services.vision.limits import ImageBounds
from services.vision.pipeline.classification import crop
from services.vision.training.data.pictures import Pictures, check_classes
from shared.errors import InvalidArgument
from shared.training.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
LABELS = "labels.csv"
ADVICE = f"give one folder of images for each class, or a {LABELS} with the columns file,label"


class UnreadableError(DataError):
    """A file that has the name of a picture and cannot be read as one."""

    def __init__(self, path: Path, reason: str) -> None:
        advice = "repair or remove it"
        super().__init__(path, expected="a picture", got=reason, advice=advice)
        self.args = (f"{path}: cannot be read as a picture: {reason}; {advice}",)


def check_folder(folder: Path) -> None:
    """Raises DataError where there is no folder of this name."""
    if not folder.is_dir():
        got = "a file" if folder.exists() else "no such folder"
        raise DataError(folder, expected="a folder of images", got=got, advice=ADVICE)


def read_folder(
    folder: Path, side: int, *, classes: Sequence[str] | None = None, limit: int | None = None
) -> Pictures:
    """Read every image as RGB, its middle cropped to a square of `side` pixels.

    classes: their order; without, the alphabet's. limit: at most so many images, the classes in turn.

    Raises:
        DataError: the folder is missing, holds no image or only one class; an image is damaged; labels.csv is wrong.
    """
    listed = list_images(folder)
    found = sorted({label for _path, label in listed})
    names = tuple(found if classes is None else classes)
    if unknown := [label for label in found if label not in names]:
        raise DataError(
            folder,
            expected=f"the classes {', '.join(names)}",
            got=repr(unknown[0]),
            advice="use the same classes for training and held-out images",
        )
    labels = np.array([names.index(label) for _path, label in listed], np.int64)
    files = tuple(str(path.relative_to(folder)) for path, _label in listed)
    # Classes are checked, and the limit drawn, before anything is decoded.
    empty = np.zeros((len(files), 0, 0, 3), np.uint8)
    chosen = check_classes(Pictures(empty, labels, names, folder, files), advice=ADVICE).limit(limit)
    pixels = np.empty((len(chosen), side, side, 3), np.uint8)
    for index, name in enumerate(chosen.names):
        pixels[index] = _read_image(folder / name, side)
    return Pictures(pixels, chosen.labels, names, folder, chosen.names)


def list_images(folder: Path) -> list[tuple[Path, str]]:
    """The image files with their labels, sorted by label and name.

    Raises:
        DataError: the folder is missing, there are no images, or labels.csv is wrong.
    """
    check_folder(folder)
    if (folder / LABELS).exists():
        return _list_labelled(folder)
    found = [
        (path, part.name)
        for part in sorted(folder.iterdir())
        if part.is_dir() and not part.name.startswith(".")
        for path in sorted(part.rglob("*"))
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]
    if not found:
        loose = sum(path.suffix.lower() in SUFFIXES for path in folder.iterdir())
        got = f"{loose} images without a class" if loose else "no image"
        raise DataError(folder, expected="folders of images", got=got, advice=ADVICE)
    return found


def _list_labelled(folder: Path) -> list[tuple[Path, str]]:
    path = folder / LABELS
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or ())
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            path, expected="comma-separated UTF-8", got=f"another content ({error})", advice=ADVICE
        ) from error
    if not {"file", "label"} <= set(columns):
        got = ", ".join(columns)[:80] or "nothing"
        raise DataError(
            path, expected="the columns file and label", got=got, advice="the first line must be `file,label`"
        )
    if not rows:
        raise DataError(path, expected="a line for each image", got="none", advice=ADVICE)
    seen: dict[str, int] = {}
    found = []
    for number, row in enumerate(rows, start=2):
        name, label = (row["file"] or "").strip(), (row["label"] or "").strip()
        where = f"in line {number}"
        if not name or not label:
            raise DataError(
                path, expected="a file and a label", got=f"one of them {where}", advice="fill it in"
            )
        if name in seen:
            got = f"{name!r} in the lines {seen[name]} and {number}"
            raise DataError(path, expected="each file once", got=got, advice="remove one of them")
        seen[name] = number
        image = folder / name
        if not image.resolve().is_relative_to(folder.resolve()) or not image.is_file():
            raise DataError(
                path,
                expected="files of this folder",
                got=f"{name!r} {where}, which is not there",
                advice="correct the name or remove the line",
            )
        found.append((image, label))
    return sorted(found, key=lambda one: (one[1], one[0]))


def _read_image(path: Path, side: int) -> np.ndarray:
    """The middle of a file's image, UINT8 [side, side, 3]."""
    bounds = ImageBounds()
    try:
        picture = decode(path.read_bytes(), field=path.name, max_pixels=bounds.max_pixels)
    except InvalidArgument as error:
        # What comes last is said to a client who sends a picture.
        raise UnreadableError(path, error.description.rpartition("; ")[0] or error.description) from error
    except OSError as error:
        raise UnreadableError(path, error.strerror or "nothing was read") from error
    return np.asarray(crop(picture.image, side))
