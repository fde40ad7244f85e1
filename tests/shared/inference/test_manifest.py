"""What artifact.json says of batching, of training and of quality is checked, and may be left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.inference.artifact import ArtifactError, read_artifact, write_artifact
from shared.inference.manifest import (
    Batching,
    Data,
    Gate,
    HeldOut,
    Made,
    Metric,
    Parity,
    Quality,
)
from tests.shared.inference.graphs import draft_of, entry_of, linear, masked, write_model

PAD = {"axis": 1, "inputs": {"x": 0, "mask": 0}}


def write_masked(folder: Path) -> Path:
    golden = {"in/x": [[1]], "in/mask": [[1]], "out/pick": [[10]], "out/total": [10]}
    draft = replace(
        draft_of(linear()),
        graphs={"model": masked()},
        golden={f"model/{name}": np.array(value) for name, value in golden.items()},
    )
    return write_artifact(folder, entry_of("masked"), draft).folder


def test_it_is_written_and_read_again(tmp_path: Path) -> None:
    read = read_artifact(write_masked(tmp_path)).graphs["model"].batching
    assert read == masked().batching


def test_an_artifact_that_says_nothing_of_it_costs_a_unit_a_row(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "line", linear()).folder
    assert "batching" not in json.loads((folder / "artifact.json").read_text())["graphs"]["model"]
    assert read_artifact(folder).graphs["model"].batching == Batching()


def test_an_output_may_be_named_with_its_axis_alone() -> None:
    batching = Batching.model_validate(
        {"pad": {**PAD, "outputs": {"pick": 1, "slow": {"axis": 2, "every": 512}}}}
    )
    assert batching.pad is not None
    assert (batching.pad.outputs["pick"].axis, batching.pad.outputs["pick"].every) == (1, 1)
    assert batching.pad.outputs["slow"].every == 512


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"cost": {"input": "z", "axes": [0]}}, r"batching\.cost: expected one of x, mask, got 'z'"),
        ({"cost": {"input": "x", "axes": [2]}}, r"expected an axis of 'x' \[-1, -1\], got 2"),
        ({"cost": {"input": "x", "axes": [1]}}, "expected 0, the rows, among them"),
        ({"cost": {"input": "x", "axes": [0, 0]}}, "expected distinct axes"),
        ({"pad": {**PAD, "inputs": {"z": 0}}}, r"batching\.pad\.inputs: expected one of x, mask, got 'z'"),
        ({"pad": {**PAD, "outputs": {"total": 1}}}, r"expected an axis of 'total' \[-1\], got 1"),
        ({"pad": PAD, "cost": {"input": "x", "axes": [0]}}, "expected axis 1 of one of x, mask"),
        ({"pad": {**PAD, "axis": 0}}, "axis"),
        ({"max_cost": 0}, "max_cost"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, said: dict[str, Any], reason: str) -> None:
    folder = write_masked(tmp_path)
    document = json.loads((folder / "artifact.json").read_text())
    document["graphs"]["model"]["batching"] = said
    (folder / "artifact.json").write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match=reason):
        read_artifact(folder)


MADE = Made(
    command="python -m services.nlp.training.train_topics --seed 0",
    commit="0" * 40,
    seed=0,
    arguments={"epochs": 5, "kind": None},
    environment={"torch": "2.13.0"},
    data=(Data(name="newsgroups", sha256="1" * 64),),
    tolerance={"accuracy": 0.01},
)
QUALITY = Quality(
    held_out=HeldOut(name="newsgroups test", sha256="2" * 64, items=7528),
    metrics={"accuracy": Metric(value=0.85, low=0.84, high=0.86)},
    gates={"accuracy": Gate(min=0.83)},
    parity=Parity(items=1024, largest=2e-6, atol=1e-4, rtol=1e-4),
)


@pytest.mark.parametrize("by", ["entry", "draft"])
def test_how_a_model_was_trained_and_how_good_it_is_comes_back(tmp_path: Path, by: str) -> None:
    draft, entry = draft_of(linear()), entry_of("line", recipe="services.nlp.models.sentiment")
    if by == "draft":
        draft = replace(draft, made=MADE, quality=QUALITY)
    else:
        entry |= {"made": MADE, "quality": QUALITY}
    manifest = read_artifact(write_artifact(tmp_path, entry, draft).folder).manifest
    assert manifest.made == MADE.model_copy(update={"recipe": "services.nlp.models.sentiment"})
    assert manifest.quality == QUALITY


def test_artifacts_that_were_not_trained_here_are_as_they_were(tmp_path: Path) -> None:
    artifact = write_model(tmp_path, "line", linear())
    document = json.loads((artifact.folder / "artifact.json").read_text())
    assert document["made"] == {"recipe": "", "recipe_sha256": ""}
    assert "quality" not in document
    assert artifact.manifest.made == Made()
    assert artifact.manifest.quality == Quality()
    del document["made"]
    (artifact.folder / "artifact.json").write_text(json.dumps(document))
    assert read_artifact(artifact.folder).manifest.made.seed is None


@pytest.mark.parametrize(
    ("path", "said", "reason"),
    [
        (
            ["quality", "gates", "f1"],
            {"min": 0.5},
            "quality.gates: expected one of the metrics accuracy, got 'f1'",
        ),
        (["quality", "gates", "accuracy"], {}, r"gates\.accuracy: expected 'min' or 'max', got neither"),
        (
            ["quality", "metrics", "accuracy", "low"],
            0.9,
            r"metrics\.accuracy: expected low <= value <= high, got 0\.9",
        ),
        (["quality", "metrics", "accuracy", "value"], float("nan"), "expected low <= value <= high"),
        (["quality", "held_out", "sha256"], "abc", r"quality\.held_out\.sha256"),
        (["quality", "held_out", "items"], 0, r"quality\.held_out\.items"),
        (["made", "tolerance", "f1"], 0.1, "made.tolerance: expected one of the metrics accuracy, got 'f1'"),
        (["made", "tolerance", "accuracy"], -0.1, r"made\.tolerance\.accuracy"),
        (["made", "data", 0, "sha256"], "", r"made\.data\.0\.sha256"),
        (["made", "author"], "x", r"made\.author"),
    ],
)
def test_what_is_wrong_of_training_and_quality_is_named(
    tmp_path: Path, path: list[Any], said: Any, reason: str
) -> None:
    draft = replace(draft_of(linear()), made=MADE, quality=QUALITY)
    folder = write_artifact(tmp_path, entry_of("line"), draft).folder
    document = json.loads((folder / "artifact.json").read_text())
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = said
    (folder / "artifact.json").write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match=reason):
        read_artifact(folder)


@pytest.mark.parametrize(
    ("gate", "value", "admitted"),
    [
        (Gate(min=0.8), 0.8, True),
        (Gate(min=0.8), 0.79, False),
        (Gate(max=0.1), 0.1, True),
        (Gate(max=0.1), 0.11, False),
        (Gate(min=0.2, max=0.4), 0.3, True),
        (Gate(min=0.2, max=0.4), 0.5, False),
        (Gate(min=0.2), float("nan"), False),
        (Gate(max=0.2), float("nan"), False),
    ],
)
def test_a_gate_admits_what_clears_it(gate: Gate, value: float, admitted: bool) -> None:
    assert gate.admits(value) is admitted
