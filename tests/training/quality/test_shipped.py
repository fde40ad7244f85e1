"""A model that ships is made again from its recorded command, and what is claimed of it is measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from shared.inference.artifact import read_artifact
from tests.benchmarks.report import Row
from tests.quality import compressed, distributed, exported, rebuilt
from tests.quality.place import Place
from tests.quality.shipped import list_shipped, rebuild, run_command

RECIPE = "tests.training.quality.train_pictures"
CATALOG = """
[pictures]
version = "1"
task = "ClassifyImage"
description = "Digits of 8×8 pixels."
license = "BSD-3-Clause"
shipped = true
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A shipped model, trained by its command."""
    root = tmp_path_factory.mktemp("root")
    catalog = root / "services/vision/models/catalog.toml"
    catalog.parent.mkdir(parents=True)
    catalog.write_text(CATALOG)
    found = load_digits()
    np.savez(root / "digits.npz", images=found.images, labels=found.target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PICTURES", str(root))
        run_command(["-m", RECIPE, "--release", "--seed", "3", "--epochs", "2"], root / "first", threads=1)
        yield Place(root / "data", root / "runs", models=(root / "first" / "artifact",))


def by_name(rows: list[Row]) -> dict[str, Row]:
    return {row.name.split("pictures/", 1)[1]: row for row in rows}


@pytest.mark.timeout(300)  # trains it first
def test_it_says_by_which_command_it_was_made(place: Place) -> None:
    (shipped,) = list_shipped(place)
    assert shipped.artifact.manifest.made.command.startswith(f"python -m {RECIPE} ")
    assert set(shipped.command) >= {"--release", "--seed", "3", "--epochs", "2"}
    assert "--out" not in shipped.command
    assert (shipped.title, shipped.key) == ("vision/pictures", "vision-pictures")


@pytest.mark.timeout(300)
def test_the_command_makes_it_again(place: Place) -> None:
    rows = by_name(list(rebuilt.measure([0], place)))
    assert rows["accuracy"].value == 0.0
    assert rows["accuracy"].holds is True
    assert rows["same_graph"].value == 1.0
    assert rows["cpu"].holds is True
    (shipped,) = list_shipped(place)
    again = rebuild(shipped, place)
    assert again.artifact.folder.is_relative_to(place.runs / "rebuilt" / "vision-pictures")
    # The card and the manifest name the commit, which others may have moved since.
    for file in ("model.onnx", "golden.npz", "confusion.png"):
        assert again.artifact.manifest.files[file] == shipped.artifact.manifest.files[file]
    assert again.artifact.manifest.quality == shipped.artifact.manifest.quality


def test_its_claims_are_measured_on_what_was_made_again(place: Place) -> None:
    parity = by_name(list(exported.measure([0], place)))
    assert parity["difference"].holds is True
    assert (parity["inputs"].value, parity["inputs"].holds) == (400, False)
    forms = by_name(list(compressed.measure([0], place)))
    assert forms["int8 weights/lost"].value == 0.0
    assert forms["int8 weights/smaller"].value > 2
    assert forms["int8 weights/worth"].holds is (forms["int8 weights/smaller"].value >= 3)


@pytest.mark.timeout(300)  # three trainings, each of which imports torch
def test_two_processes_give_one_process_curve(place: Place) -> None:
    (row,) = distributed.measure([0], place)
    assert row.name == "distributed/vision/pictures/loss"
    assert row.holds is True
    assert "train_loss" in row.how


def test_a_model_that_was_tampered_with_is_seen_to_differ(place: Place, tmp_path: Path) -> None:
    (shipped,) = list_shipped(place)
    folder = tmp_path / "artifact" / "pictures" / "1"
    folder.mkdir(parents=True)
    document = json.loads((shipped.artifact.folder / "artifact.json").read_text())
    document["quality"]["metrics"]["accuracy"] = {"value": 0.999, "low": 0.99, "high": 1.0}
    (folder / "artifact.json").write_text(json.dumps(document))
    assert read_artifact(folder).manifest.quality.metrics["accuracy"].value == 0.999
    claimed = Place(place.data, place.runs, models=(tmp_path / "artifact",))
    assert by_name(list(rebuilt.measure([0], claimed)))["accuracy"].holds is False


def test_a_command_that_fails_says_why(place: Place, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)ended with 2: .*expected a whole number of at least 1"):
        run_command(["-m", RECIPE, "--epochs", "0"], tmp_path)
