"""Artifacts that lie in the checkout: checked against the catalogue and their own digests, and copied whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.pull.build import BuildError, artifact_folder, pull, why_not_made
from cli.pull.catalog import Entry, read_catalog
from cli.pull.progress import Silence
from cli.pull.run import run
from shared.inference.artifact import read_artifact, verify, write_artifact
from tests.shared.inference.graphs import draft_of, entry_of, linear
from tests.support.artifact_copy import change_manifest, flip_bit

CATALOG = """
[line]
version = "1"
task = "DoTask"
description = "small"
license = "MIT"
training_data = "none"
shipped = true
"""


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    """A catalogue with one artifact beside it."""
    folder = tmp_path / "services/test/models"
    fields = {**entry_of("line", task="DoTask"), "license": "MIT", "card_text": "# Line\n"}
    write_artifact(folder, fields, draft_of(linear()))
    (folder / "catalog.toml").write_text(CATALOG)
    (found,) = read_catalog(folder / "catalog.toml", "test")
    return found


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_it_is_copied_once_and_whole(entry: Entry, state: Path) -> None:
    assert why_not_made(entry, state) == "not pulled"
    assert pull(entry, state, Silence())
    artifact = read_artifact(artifact_folder(entry, state))
    verify(artifact)
    assert artifact.digest == read_artifact(entry.shipped_folder).digest
    assert (artifact.folder / "card.md").read_text() == "# Line\n"
    made = artifact.folder.stat().st_ino
    assert not pull(entry, state, Silence())
    assert artifact.folder.stat().st_ino == made
    assert pull(entry, state, Silence(), force=True)
    assert [path.name for path in artifact.folder.parent.iterdir()] == ["1"]


def test_a_damaged_copy_is_copied_again(entry: Entry, state: Path) -> None:
    pull(entry, state, Silence())
    flip_bit(artifact_folder(entry, state))
    assert why_not_made(entry, state).startswith("damaged: model.onnx")
    assert pull(entry, state, Silence())
    assert why_not_made(entry, state) == ""


def test_another_one_is_shipped_later(entry: Entry, state: Path) -> None:
    pull(entry, state, Silence())
    change_manifest(description="better")(entry.shipped_folder)
    assert why_not_made(entry, state) == "another one is shipped"
    assert pull(entry, state, Silence())
    assert read_artifact(artifact_folder(entry, state)).description == "better"


def test_one_that_was_changed_in_the_checkout_is_not_copied(entry: Entry, state: Path) -> None:
    pull(entry, state, Silence())
    before = read_artifact(artifact_folder(entry, state))
    flip_bit(entry.shipped_folder)
    with pytest.raises(BuildError, match=r"test/line: model\.onnx: expected sha256"):
        pull(entry, state, Silence(), force=True)
    verify(before)
    (outcome,) = run([entry], state, Silence(), force=True, named=False)
    assert outcome.state == "failed"


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("task", "DoOther", "task: the catalogue says 'DoTask', artifact.json 'DoOther'"),
        ("license", "GPL-3.0", "license: the catalogue says 'MIT', artifact.json 'GPL-3.0'"),
        ("service", "other", "service: the catalogue says 'test', artifact.json 'other'"),
        ("version", "2", "version: expected the folder's '1', got '2'"),
    ],
)
def test_it_must_be_what_the_catalogue_says(
    entry: Entry, state: Path, field: str, value: str, says: str
) -> None:
    path = entry.shipped_folder / "artifact.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), field: value}))
    with pytest.raises(BuildError, match=says):
        pull(entry, state, Silence())
    assert not artifact_folder(entry, state).exists()


def test_one_that_is_not_there(entry: Entry, state: Path) -> None:
    (entry.shipped_folder / "artifact.json").unlink()
    with pytest.raises(BuildError, match=r"test/line: as shipped in .*artifact\.json is missing"):
        pull(entry, state, Silence())
