"""What artifact.json says of batching is checked, and may be left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.inference.artifact import ArtifactError, read_artifact, write_artifact
from shared.inference.manifest import Batching
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
