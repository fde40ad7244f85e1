"""CIFAR-10 as published: the folder of the binary version (`data_batch_1.bin` …) and that of the python version (pickles).

Source of the formats: the data set's own description (Krizhevsky, 2009): 10,000 records a file, in the binary one a
label byte and 3,072 bytes each, in the pickles `data` [10000, 3072] and `labels`; a picture is three planes of 32 x 32.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.vision.training.data.pictures import Pictures, check_classes
from shared.training.errors import DataError

SIDE = 32
_PIXELS = 3 * SIDE * SIDE
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_HELD_OUT = ("test_batch",)
ADVICE = "unpack the archive again"

# All that a published batch is made of, under the names of the numpy that wrote it and of today's.
_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),
}


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that builds arrays and plain values, and refuses to call anything else that a file names."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        if name == "_reconstruct":
            # The old name of the module warns; both are the same function.
            module = "numpy._core.multiarray"
        return super().find_class(module, name)


def is_cifar(folder: Path) -> bool:
    """Whether the folder holds a batch of either version."""
    return any((folder / f"{_TRAIN[0]}{suffix}").is_file() for suffix in ("", ".bin"))


def read_cifar(folder: Path, part: str = "train", *, batches: int = len(_TRAIN)) -> Pictures:
    """Read a part (`train` or `held out`) of either version; `batches`: only the first so many files of the training part.

    Raises:
        DataError: a file is missing, damaged, or has labels outside the classes.
    """
    suffix = ".bin" if (folder / f"{_TRAIN[0]}.bin").is_file() else ""
    names = _TRAIN[:batches] if part == "train" else _HELD_OUT
    classes = _read_classes(folder, suffix)
    read = _read_binary if suffix else _read_pickle
    pixels, labels = [], []
    for name in names:
        path = folder / f"{name}{suffix}"
        some_pixels, some_labels = read(path)
        if some_labels.size and not 0 <= some_labels.min() <= some_labels.max() < len(classes):
            raise DataError(
                path,
                expected=f"labels 0 to {len(classes) - 1}",
                got=f"{some_labels.min()} to {some_labels.max()}",
                advice=ADVICE,
            )
        pixels.append(some_pixels)
        labels.append(some_labels)
    planes = np.concatenate(pixels).reshape(-1, 3, SIDE, SIDE)
    pictures = Pictures(
        np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.concatenate(labels), classes, folder
    )
    return check_classes(pictures, advice=ADVICE)


def _read_binary(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    content = np.frombuffer(_read(path), np.uint8)
    if content.size == 0 or content.size % (1 + _PIXELS):
        raise DataError(
            path, expected=f"a multiple of {1 + _PIXELS} bytes", got=str(content.size), advice=ADVICE
        )
    records = content.reshape(-1, 1 + _PIXELS)
    return records[:, 1:], records[:, 0].astype(np.int64)


def _read_pickle(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    batch = _unpickle(path)
    try:
        pixels, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"], dtype=np.int64)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(path, expected="data and labels", got=f"others ({error})", advice=ADVICE) from error
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape != (len(labels), _PIXELS):
        raise DataError(
            path,
            expected=f"bytes of shape [{len(labels)}, {_PIXELS}], one row a label",
            got=f"{pixels.dtype} of shape {list(pixels.shape)}",
            advice=ADVICE,
        )
    return pixels, labels


def _read_classes(folder: Path, suffix: str) -> tuple[str, ...]:
    if suffix:
        path = folder / "batches.meta.txt"
        try:
            names = _read(path).decode().split()
        except UnicodeDecodeError as error:
            raise DataError(path, expected="names of classes", got="no text", advice=ADVICE) from error
    else:
        path = folder / "batches.meta"
        meta = _unpickle(path)
        found = meta.get(b"label_names") if isinstance(meta, dict) else None
        if not isinstance(found, list):
            raise DataError(path, expected="label_names", got="others", advice=ADVICE)
        names = [name.decode() if isinstance(name, bytes) else str(name) for name in found]
    if len(names) < 2 or len(set(names)) != len(names):
        raise DataError(
            path, expected="distinct names of at least two classes", got=f"{names!r:.80}", advice=ADVICE
        )
    return tuple(names)


def _unpickle(path: Path) -> Any:
    content = _read(path)
    try:
        # Written by Python 2: its texts come as bytes.
        return _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ImportError,
    ) as error:
        raise DataError(
            path,
            expected="a pickled batch of CIFAR-10",
            got=f"one that cannot be read ({error})",
            advice=ADVICE,
        ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            path, expected="a file of CIFAR-10", got=error.strerror or "nothing", advice=ADVICE
        ) from error
