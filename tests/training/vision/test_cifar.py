"""CIFAR-10's two published formats, written here as the publisher describes them."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from services.vision.training.data.cifar import read_cifar
from services.vision.training.data.source import read_source
from shared.training.errors import DataError

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
NAMES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
ROWS = 20


def make_batch(number: int) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (ROWS, 3072), dtype=np.uint8), [row % 10 for row in range(ROWS)]


def write_binary(folder: Path) -> None:
    folder.mkdir()
    (folder / "batches.meta.txt").write_text("\n".join(CLASSES) + "\n\n")
    for number, name in enumerate(NAMES):
        pixels, labels = make_batch(number)
        rows = np.concatenate([np.array(labels, np.uint8)[:, None], pixels], axis=1)
        (folder / f"{name}.bin").write_bytes(rows.tobytes())


def write_python(folder: Path) -> None:
    """As Python 2 wrote them: protocol 2, texts as bytes, arrays by numpy.core.multiarray."""
    folder.mkdir()

    def dump(value: object, name: str) -> None:
        content = pickle.dumps(value, protocol=2)
        (folder / name).write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))

    dump({b"label_names": [name.encode() for name in CLASSES], b"num_vis": 3072}, "batches.meta")
    for number, name in enumerate(NAMES):
        pixels, labels = make_batch(number)
        dump(
            {b"batch_label": b"x", b"labels": labels, b"data": pixels, b"filenames": [b"a.png"] * ROWS}, name
        )


@pytest.fixture(params=[write_binary, write_python], ids=["binary", "python"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    request.param(tmp_path / "cifar")
    return tmp_path / "cifar"


def test_both_formats_hold_the_same(tmp_path: Path) -> None:
    write_binary(tmp_path / "a")
    write_python(tmp_path / "b")
    one, other = read_cifar(tmp_path / "a"), read_cifar(tmp_path / "b")
    assert one.sha256 == other.sha256
    assert one.classes == tuple(CLASSES)
    assert one.pixels.shape == (5 * ROWS, 32, 32, 3)
    # Three planes a picture, row by row.
    assert one.pixels[0, 1, 2].tolist() == make_batch(0)[0][0].reshape(3, 32, 32)[:, 1, 2].tolist()
    assert one.labels[:12].tolist() == [*range(10), 0, 1]


def test_the_publishers_division_is_kept(folder: Path) -> None:
    source = read_source(folder, 99)
    assert (len(source.train), len(source.held_out), source.divided) == (100, 20, "the publisher")
    assert len(read_source(folder, 99, limit=30).train) == 30


def test_a_missing_or_short_batch_is_named(folder: Path) -> None:
    path = next(path for path in sorted(folder.iterdir()) if path.stem == "data_batch_3")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match="data_batch_3") as caught:
        read_cifar(folder)
    assert caught.value.path == path
    path.unlink()
    with pytest.raises(DataError, match=r"data_batch_3.*No such file"):
        read_cifar(folder)


def test_labels_outside_the_classes(folder: Path) -> None:
    meta = next(folder.glob("batches.meta*"))
    if meta.suffix == ".txt":
        meta.write_text("\n".join(CLASSES[:8]))
    else:
        meta.write_bytes(pickle.dumps({b"label_names": [b"a", b"b", b"c"]}, protocol=2))
    with pytest.raises(DataError, match=r"expected labels 0 to [27], got 0 to 9"):
        read_cifar(folder)


@pytest.mark.parametrize("names", ["", "only", "twice twice"])
def test_a_wrong_list_of_classes(tmp_path: Path, names: str) -> None:
    write_binary(tmp_path / "cifar")
    (tmp_path / "cifar" / "batches.meta.txt").write_text(names)
    with pytest.raises(DataError, match="distinct names of at least two classes"):
        read_cifar(tmp_path / "cifar")


def test_a_hostile_pickle_is_not_run(tmp_path: Path) -> None:
    write_python(tmp_path / "cifar")
    target = tmp_path / "made"

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(target),)

    (tmp_path / "cifar" / "data_batch_1").write_bytes(pickle.dumps(Hostile(), protocol=2))
    with pytest.raises(DataError, match=r"it asks for posix\.mkdir"):
        read_cifar(tmp_path / "cifar")
    assert not target.exists()


@pytest.mark.parametrize(
    "batch",
    [
        {},
        [1],
        {b"data": np.zeros((2, 9), np.uint8), b"labels": [1, 2]},
        {b"data": np.zeros((2, 3072)), b"labels": [1, 2]},
    ],
)
def test_a_pickle_of_something_else(tmp_path: Path, batch: object) -> None:
    write_python(tmp_path / "cifar")
    content = pickle.dumps(batch, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    (tmp_path / "cifar" / "data_batch_1").write_bytes(content)
    with pytest.raises(DataError, match="data_batch_1"):
        read_cifar(tmp_path / "cifar")
