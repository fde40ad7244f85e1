"""What lies on disk, in which order, and what of it is not seen."""

import os
from pathlib import Path

import pytest

from shared.inference.repository.versions import order, scan
from tests.shared.inference.graphs import linear, write_model


@pytest.mark.parametrize(
    "ordered", [["1", "2", "10"], ["1.9", "1.10", "2"], ["a", "b", "1"], ["2024-12-31", "2025-01-02"]]
)
def test_versions_are_ordered_as_people_do(ordered: list[str]) -> None:
    shuffled = ordered[1:] + ordered[:1]
    assert sorted(shuffled, key=order) == ordered


def test_what_is_being_written_is_not_seen(tmp_path: Path) -> None:
    write_model(tmp_path, "line", linear(), version="1")
    (tmp_path / "line" / "1").rename(tmp_path / "line" / ".partial-1")
    (tmp_path / ".trash" / "1").mkdir(parents=True)
    (tmp_path / "notes.txt").touch()
    assert scan(tmp_path) == {}
    (tmp_path / "line" / ".partial-1").rename(tmp_path / "line" / "1")
    assert {name: list(versions) for name, versions in scan(tmp_path).items()} == {"line": ["1"]}


def test_what_no_message_could_name_and_links_that_lead_nowhere_are_not_seen(tmp_path: Path) -> None:
    write_model(tmp_path, "line", linear())
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "nowhere").symlink_to(tmp_path / "nothing")
    (tmp_path / "line" / "2").symlink_to("2")
    (tmp_path / os.fsdecode(b"odd\xff") / "1").mkdir(parents=True)
    assert {name: list(versions) for name, versions in scan(tmp_path).items()} == {"line": ["1"]}


def test_a_file_that_leads_nowhere_makes_another_folder_of_one(tmp_path: Path) -> None:
    write_model(tmp_path, "line", linear())
    before = scan(tmp_path)
    (tmp_path / "line" / "1" / "circle").symlink_to("circle")
    assert scan(tmp_path) != before


def test_a_folder_whose_files_change_is_another(tmp_path: Path) -> None:
    artifact = write_model(tmp_path, "line", linear())
    before = scan(tmp_path)
    assert scan(tmp_path) == before
    (artifact.folder / "labels.txt").write_text("other\n")
    assert scan(tmp_path) != before


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert scan(tmp_path / "nothing") == {}
