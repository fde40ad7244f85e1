"""Checkpoints are whole or not there, damage is noticed, and a full disk takes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from shared.training import checkpoint
from shared.training.errors import CheckpointError
from tests.training.core.file_limit import files_up_to


def state(epoch: int) -> dict[str, object]:
    return {"epoch": epoch, "model": {"w": torch.arange(20_000.0) + epoch}}


def load(folder: Path) -> tuple[int, str]:
    found = checkpoint.read(folder)
    assert found is not None
    decoded = checkpoint.decode(found[0])
    assert torch.equal(decoded["model"]["w"], state(decoded["epoch"])["model"]["w"])
    return decoded["epoch"], found[1]


def test_the_last_and_the_best_are_kept(tmp_path: Path) -> None:
    assert checkpoint.read(tmp_path) is None
    checkpoint.save(tmp_path, state(1), best=True)
    assert load(tmp_path) == (1, "")
    checkpoint.save(tmp_path, state(2), best=False)
    checkpoint.save(tmp_path, state(3), best=False)
    assert load(tmp_path) == (3, "")
    assert checkpoint.decode(checkpoint.read_best(tmp_path))["epoch"] == 1
    checkpoint.save(tmp_path, state(4), best=True)
    assert load(tmp_path) == (4, "")
    assert checkpoint.decode(checkpoint.read_best(tmp_path))["epoch"] == 4
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "best.pt"}


@pytest.mark.parametrize("damaged", ["last.pt", "best.pt"])
def test_what_damages_one_file_leaves_the_other(tmp_path: Path, damaged: str) -> None:
    checkpoint.save(tmp_path, state(1), best=True)
    with (tmp_path / damaged).open("r+b") as file:
        file.seek(1000)
        file.write(b"damage" * 100)
    epoch, remark = load(tmp_path)
    assert epoch == 1
    assert ("last.pt: damaged" in remark) == (damaged == "last.pt")


@pytest.mark.parametrize("best", [True, False])
def test_a_write_that_breaks_off_leaves_what_was_there(tmp_path: Path, best: bool) -> None:
    checkpoint.save(tmp_path, state(1), best=True)
    checkpoint.save(tmp_path, state(2), best=False)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with files_up_to(40_000), pytest.raises(CheckpointError) as failed:
        checkpoint.save(tmp_path, state(3), best=best)
    text = str(failed.value)
    assert "cannot write a checkpoint of 0.1 MB: File too large" in text
    assert "last.pt and best.pt of before still there: make room and run the same command again" in text
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert load(tmp_path) == (2, "")


def test_the_first_one_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    with files_up_to(40_000), pytest.raises(CheckpointError, match="there is none of before"):
        checkpoint.save(tmp_path, state(1), best=True)
    assert list(tmp_path.iterdir()) == []


def test_any_damaged_byte_is_noticed(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(1), best=True)
    content = checkpoint.read_best(tmp_path)
    # Weights are most of the file; every 997th byte hits each of its parts' contents.
    inside = range(content.index(b"\x00\x00\x80?"), content.index(b"\x00\x00\x80?") + 79_000, 997)
    for at in inside:
        damaged = bytearray(content)
        damaged[at] ^= 0x10
        assert checkpoint.find_damage(bytes(damaged)) is not None
    for length in (0, 1, 100, len(content) // 2, len(content) - 1):
        assert checkpoint.find_damage(content[:length]) is not None
    assert checkpoint.find_damage(content) is None


def test_a_damaged_last_one_gives_way_to_the_best(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(1), best=True)
    checkpoint.save(tmp_path, state(2), best=False)
    (tmp_path / "last.pt").write_bytes((tmp_path / "last.pt").read_bytes()[:-50])
    epoch, remark = load(tmp_path)
    assert epoch == 1
    assert "last.pt: damaged" in remark
    assert f"going on from {tmp_path / 'best.pt'}" in remark
    (tmp_path / "best.pt").write_bytes(b"nothing")
    with pytest.raises(
        CheckpointError, match=r"last\.pt: damaged .*best\.pt: damaged .*start again with --fresh"
    ):
        checkpoint.read(tmp_path)
    with pytest.raises(CheckpointError, match=r"best\.pt: damaged"):
        checkpoint.read_best(tmp_path)


def test_what_torch_would_run_is_not_loaded(tmp_path: Path) -> None:
    torch.save({"format": checkpoint.FORMAT, "path": tmp_path}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="torch cannot load"):
        checkpoint.decode((tmp_path / "last.pt").read_bytes())
    torch.save({"format": 99}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="of format 1, got 99"):
        checkpoint.decode((tmp_path / "last.pt").read_bytes())


def test_what_was_left_half_written_is_removed(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(1), best=True)
    for name in (".last.pt.00112233", ".best.pt.44556677", ".curves.csv.8899aabb"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "curves.csv").write_text("epoch\n")
    (tmp_path / "card.md").write_text("mine")
    checkpoint.clear(tmp_path, checkpoints=False)
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "best.pt", "curves.csv", "card.md"}
    checkpoint.clear(tmp_path, checkpoints=True)
    assert {path.name for path in tmp_path.iterdir()} == {"card.md"}
