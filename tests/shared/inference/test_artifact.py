"""What is written is what is read; what was damaged, cut off or never meant for us is refused by name."""

from __future__ import annotations

import gc
import json
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.inference.artifact import (
    ArtifactError,
    GraphDraft,
    Tensor,
    digest_manifest,
    read_artifact,
    verify,
    write_artifact,
)
from tests.shared.inference.graphs import draft_of, entry_of, linear, write_model


def test_a_draft_comes_back_as_it_was_written(tmp_path: Path) -> None:
    draft = draft_of(linear())
    source = {"registry": "pypi", "package": "p", "version": "2", "sha256": "0" * 64, "members": {"a": "b"}}
    entry = entry_of("line", source=[source], recipe="r", recipe_sha256="1" * 64, card_text="# Card\n")
    artifact = write_artifact(tmp_path, entry, draft)
    again = read_artifact(tmp_path / "line" / "1")
    assert again == artifact
    verify(again)
    assert (again.name, again.version, again.service, again.task) == ("line", "1", "test", "DoTask")
    assert again.constants == {"size": [1, 2]}
    assert again.preprocessing == "numbers/1"
    assert again.asset("labels").read_text() == "one\ntwo\n"
    assert again.graph_file("model").read_bytes() == draft.graphs["model"].content
    assert again.graphs["model"].inputs == (Tensor("x", "FP32", (-1, 16)),)
    assert (again.folder / "card.md").read_text() == "# Card\n"
    assert [item.package for item in again.manifest.source] == ["p"]
    golden = again.read_golden()
    assert golden.keys() == draft.golden.keys()
    for key, value in golden.items():
        np.testing.assert_array_equal(value, draft.golden[key])
    assert set(again.manifest.files) == {"card.md", "golden.npz", "labels.txt", "model.onnx"}


def test_the_digest_is_of_the_canonical_json(tmp_path: Path) -> None:
    artifact = write_model(tmp_path, "line", linear())
    document = json.loads((artifact.folder / "artifact.json").read_text())
    (artifact.folder / "artifact.json").write_text(json.dumps(document, sort_keys=True))
    assert read_artifact(artifact.folder).digest == artifact.digest == digest_manifest(document)
    assert artifact.digest.startswith("sha256:")
    document["description"] = "another"
    assert digest_manifest(document) != artifact.digest


def test_the_same_draft_written_twice_is_the_same_artifact(tmp_path: Path) -> None:
    first = write_model(tmp_path / "a", "line", linear())
    second = write_model(tmp_path / "b", "line", linear())
    assert first.digest == second.digest
    assert write_model(tmp_path / "a", "line", linear()) == first


def test_another_artifact_of_the_same_version_is_refused_unless_it_is_to_replace(tmp_path: Path) -> None:
    first = write_model(tmp_path, "line", linear())
    other = draft_of(linear(max_batch_size=4))
    with pytest.raises(ArtifactError, match="is there already with another content"):
        write_artifact(tmp_path, entry_of("line"), other)
    assert read_artifact(first.folder) == first
    replaced = write_artifact(tmp_path, entry_of("line"), other, replace=True)
    assert replaced.graphs["model"].max_batch_size == 4
    assert [path.name for path in (tmp_path / "line").iterdir()] == ["1"]


def test_a_damaged_artifact_is_replaced(tmp_path: Path) -> None:
    artifact = write_model(tmp_path, "line", linear())
    (artifact.folder / "model.onnx").write_bytes(b"damaged")
    verify(write_model(tmp_path, "line", linear()))


def test_half_a_character_is_no_reason_to_fail_otherwise(tmp_path: Path) -> None:
    artifact = write_model(tmp_path, "line", linear())
    path = artifact.folder / "artifact.json"
    path.write_text(path.read_text().replace('"license": "', '"license": "\\ud800'))
    with pytest.raises(ArtifactError, match=r"artifact\.json is not JSON"):
        read_artifact(artifact.folder)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            lambda file: file.write_bytes(b"x" + file.read_bytes()[1:]),
            r"model\.onnx: expected sha256 .*, got ",
        ),
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), r"model\.onnx: expected \d+ bytes, got \d+"),
        (lambda file: file.unlink(), r"model\.onnx is missing"),
        (
            lambda file: (file.unlink(), file.symlink_to("/dev/zero")),
            r"model\.onnx cannot be read: it is no regular file",
        ),
    ],
)
def test_a_damaged_file_is_named_with_what_was_expected_and_got(
    tmp_path: Path, damage: Callable[[Path], object], expected: str
) -> None:
    artifact = write_model(tmp_path, "line", linear())
    damage(artifact.folder / "model.onnx")
    with pytest.raises(ArtifactError, match=expected):
        verify(artifact)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (["format"], 2, "format"),
        (["name"], "other", "name: expected the folder's 'line', got 'other'"),
        (["version"], "2", "version: expected the folder's '1', got '2'"),
        (["graphs", "model", "file"], "../model.onnx", r"graphs\.model\.file"),
        (["graphs", "model", "max_batch_size"], -1, "max_batch_size"),
        (["graphs", "model", "inputs"], [], "inputs"),
        (
            ["graphs", "model", "inputs"],
            [{"name": "x", "dtype": "FP8", "shape": [-1]}],
            r"inputs\[0\]\.dtype: .*got 'FP8'",
        ),
        (
            ["graphs", "model", "inputs"],
            [{"name": "x", "dtype": "FP32", "shape": [2, 16]}],
            r"inputs\[0\]\.shape: expected -1 as the first axis",
        ),
        (["graphs", "model", "outputs", 0, "shape"], [-1, -2], r"outputs\[0\]\.shape: expected axes >= -1"),
        (["files", "golden.npz"], None, r"files"),
        (["surprise"], 1, "surprise"),
    ],
)
def test_a_manifest_that_is_wrong_names_the_field(
    tmp_path: Path, path: list[Any], value: Any, expected: str
) -> None:
    artifact = write_model(tmp_path, "line", linear())
    document = json.loads((artifact.folder / "artifact.json").read_text())
    place = document
    for step in path[:-1]:
        place = place[step]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    (artifact.folder / "artifact.json").write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match=expected):
        read_artifact(artifact.folder)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", r"artifact\.json: "),
        (None, r"artifact\.json is missing"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path, content: str | None, expected: str) -> None:
    folder = tmp_path / "line" / "1"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "artifact.json").write_text(content)
    with pytest.raises(ArtifactError, match=expected):
        read_artifact(folder)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"license": ""}, "no 'license'"),
        ({"version": "../2"}, "version"),
        ({"name": ".hidden"}, "name"),
    ],
)
def test_an_entry_that_is_wrong_writes_nothing(tmp_path: Path, fields: dict[str, str], expected: str) -> None:
    entry = {**entry_of("line"), **fields}
    with pytest.raises(ArtifactError, match=expected):
        write_artifact(tmp_path / "models", entry, draft_of(linear()))
    assert not (tmp_path / "models").exists()


def test_drafts_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    draft = draft_of(linear())
    clash = replace(draft, assets={"labels": ("model.onnx", b"not the graph")})
    with pytest.raises(ArtifactError, match=r"two files .* called 'model\.onnx'"):
        write_artifact(tmp_path, entry_of("line"), clash)
    with pytest.raises(ArtifactError, match="constants"):
        write_artifact(tmp_path, entry_of("line"), replace(draft, constants={"mean": np.float32(1)}))
    with pytest.raises(ArtifactError, match="constants"):
        write_artifact(tmp_path, entry_of("line"), replace(draft, constants={"scale": float("nan")}))


def test_an_unknown_asset_lists_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="'vocabulary' is not among its assets: labels"):
        write_model(tmp_path, "line", linear()).asset("vocabulary")


def test_a_write_that_fails_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    before = write_model(tmp_path, "line", linear())
    large = GraphDraft(bytes(1_000_000), "large.onnx", linear().inputs, linear().outputs, 8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Files of more than this cannot be written: the kernel stops the large one half way.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(ArtifactError, match="cannot be written"):
            write_artifact(
                tmp_path,
                entry_of("line"),
                replace(draft_of(linear()), graphs={"model": linear(), "large": large}),
                replace=True,
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in (tmp_path / "line").iterdir()] == ["1"]
    verify(read_artifact(before.folder))


def test_golden_files_can_be_read_by_many_threads(tmp_path: Path) -> None:
    """Threads change places at every garbage collection here, which finds at once what else takes a day."""
    artifact = write_model(tmp_path, "line", linear())

    def give_way(phase: str, info: dict[str, int]) -> None:
        time.sleep(1e-5)

    def read(depth: int) -> bool:
        return read(depth - 1) if depth else len(artifact.read_golden()) == 2

    thresholds = gc.get_threshold()
    gc.callbacks.append(give_way)
    gc.set_threshold(7)
    try:
        with ThreadPoolExecutor(3) as pool:
            assert all(pool.map(read, [0, 3, 5] * 140))
    finally:
        gc.callbacks.remove(give_way)
        gc.set_threshold(*thresholds)
