"""A folder of addresses, as a supervisor writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Mesh
from gateway.discovery.membership import FolderMembership, Insert, Remove, Settled, StaticMembership
from tests.support.waiting import take


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


async def test_replicas_come_move_and_go(tmp_path: Path) -> None:
    changes = FolderMembership(tmp_path / "later", ["vision", "nlp"], poll_s=0.01).changes()
    place = tmp_path / "later" / "vision" / "0"
    write(place, "127.0.0.1:5001\n")
    assert [await take(changes), await take(changes)] == [Insert("vision", "127.0.0.1:5001"), Settled()]
    write(tmp_path / "later" / "nlp" / "0", "unix:/run/nlp")
    assert await take(changes) == Insert("nlp", "unix:/run/nlp")
    write(place, "127.0.0.1:5002")
    assert await take(changes) == Remove("vision", "127.0.0.1:5001")
    assert await take(changes) == Insert("vision", "127.0.0.1:5002")
    place.unlink()
    assert await take(changes) == Remove("vision", "127.0.0.1:5002")
    await changes.aclose()


def test_what_is_no_address_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "vision" / "0", "")
    write(tmp_path / "vision" / "1", "nonsense")
    write(tmp_path / "vision" / ".2.half", "127.0.0.1:1")
    write(tmp_path / "vision" / "3", "127.0.0.1:3")
    write(tmp_path / "other" / "0", "127.0.0.1:4")
    (tmp_path / "vision" / "4").mkdir()
    (tmp_path / "vision" / "5").write_bytes(b"\xff\xfe")
    assert FolderMembership(tmp_path, ["vision"]).read() == {Insert("vision", "127.0.0.1:3")}


async def test_those_of_the_file_are_there_once() -> None:
    mesh = Mesh.model_validate({"services": [{"name": "a", "grpc": ["a.B"], "replicas": ["h:1", "unix:/x"]}]})
    found = [change async for change in StaticMembership(mesh).changes()]
    assert found == [Insert("a", "h:1"), Insert("a", "unix:/x"), Settled()]


@pytest.mark.parametrize("folder", ["none", "file"])
def test_a_folder_that_is_none_holds_nobody(tmp_path: Path, folder: str) -> None:
    write(tmp_path / "file", "x")
    assert FolderMembership(tmp_path / folder, ["vision"]).read() == frozenset()
