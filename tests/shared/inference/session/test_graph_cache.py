"""Optimised graphs in the state folder: kept where it pays, found again, never used when anything differs."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper

from shared.inference.artifact import GraphDraft, Tensor, read_artifact
from shared.inference.session.graph_cache import CachedGraph, GraphCache
from shared.inference.session.session import Session
from tests.shared.inference.graphs import draft_graph, linear

LARGE = 10**9
# Whether it pays depends on the machine; most tests are not about that.
ALWAYS = math.inf
DIGEST = "sha256:" + "0" * 64


def deep(layers: int = 150) -> GraphDraft:
    """y = |((x + 0) + 0) …|, [N, 4]: nothing of it needs to be run, which takes ONNX Runtime long to find out."""
    nodes = [helper.make_node("Identity", ["x"], ["h0"])]
    for i in range(layers):
        nodes += [
            helper.make_node("Add", [f"h{i}", "zero"], [f"a{i}"]),
            helper.make_node("Mul", [f"a{i}", "one"], [f"h{i + 1}"]),
        ]
    nodes.append(helper.make_node("Abs", [f"h{layers}"], ["y"]))
    return draft_graph(
        nodes,
        [Tensor("x", "FP32", (-1, 4))],
        [Tensor("y", "FP32", (-1, 4))],
        {"zero": np.float32(0), "one": np.float32(1)},
    )


X: Mapping[str, NDArray[np.float32]] = {"x": np.linspace(-3, 3, 8, dtype=np.float32).reshape(2, 4)}


@pytest.fixture
def cache(tmp_path: Path) -> GraphCache:
    return GraphCache(tmp_path / "optimized", max_bytes=LARGE)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(deep().content)
    return path


def fill(cache: GraphCache, file: Path, digest: str = DIGEST) -> Path:
    """Open a graph and keep it optimised; gives the kept file."""
    before = set(cache.folder.glob("*.onnx"))
    session = Session(file, cache=cache, digest=digest)
    assert not session.from_cache
    session.keep_optimized(X, share=ALWAYS)
    (made,) = set(cache.folder.glob("*.onnx")) - before
    return made


def test_the_next_session_is_made_of_the_optimised_graph_and_gives_the_same_bits(
    cache: GraphCache, file: Path
) -> None:
    plain = Session(file)
    fill(cache, file)
    again = Session(file, cache=cache, digest=DIGEST)
    assert again.from_cache
    assert again.run(X, ["y"])[0].tobytes() == plain.run(X, ["y"])[0].tobytes()
    assert (again.inputs, again.outputs) == (plain.inputs, plain.outputs)


def test_without_a_cache_or_a_digest_nothing_is_kept(cache: GraphCache, file: Path) -> None:
    for session in (Session(file), Session(file, cache=cache)):
        session.keep_optimized(X, share=ALWAYS)
        assert not session.from_cache
    assert not cache.folder.exists()


def test_another_artifact_finds_nothing(cache: GraphCache, file: Path) -> None:
    fill(cache, file)
    assert not Session(file, cache=cache, digest=DIGEST.replace("0", "1")).from_cache


@pytest.mark.parametrize("change", ["runtime", "cpu", "precision"])
def test_another_runtime_cpu_or_precision_finds_nothing(
    cache: GraphCache, file: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cache, file)
    if change != "precision":
        monkeypatch.setattr(f"shared.inference.session.graph_cache.describe_{change}", lambda: "another")
    precision = "fp16" if change == "precision" else None
    assert not Session(file, cache=cache, digest=DIGEST, precision=precision).from_cache


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone", "record", "foreign record"])
def test_what_is_damaged_is_removed_and_made_again(cache: GraphCache, file: Path, damage: str) -> None:
    kept = fill(cache, file)
    content, record = kept.read_bytes(), kept.with_suffix(".json")
    if damage == "flip":
        kept.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    elif damage == "cut":
        kept.write_bytes(content[:-9])
    elif damage == "empty":
        kept.write_bytes(b"")
    elif damage == "gone":
        kept.unlink()
    elif damage == "record":
        record.write_text("{")
    else:
        record.write_text(json.dumps({"key": {}, "sha256": hashlib.sha256(content).hexdigest()}))
    session = Session(file, cache=cache, digest=DIGEST)
    assert not session.from_cache
    assert not record.exists()
    session.keep_optimized(X, share=ALWAYS)
    assert Session(file, cache=cache, digest=DIGEST).from_cache


def test_a_graph_whose_digest_is_right_but_that_cannot_be_opened_is_removed(
    cache: GraphCache, file: Path
) -> None:
    kept = fill(cache, file)
    record = json.loads(kept.with_suffix(".json").read_text())
    kept.write_bytes(b"no graph")
    kept.with_suffix(".json").write_text(
        json.dumps({**record, "sha256": hashlib.sha256(b"no graph").hexdigest()})
    )
    assert not Session(file, cache=cache, digest=DIGEST).from_cache
    assert not kept.exists()


def test_what_does_not_open_faster_is_not_kept_and_not_tried_again(cache: GraphCache, file: Path) -> None:
    Session(file, cache=cache, digest=DIGEST).keep_optimized(X, share=0.0)
    (record,) = cache.folder.iterdir()
    assert json.loads(record.read_text())["refused"] == "it does not open faster"
    Session(file, cache=cache, digest=DIGEST).keep_optimized(X, share=ALWAYS)
    assert list(cache.folder.iterdir()) == [record]
    assert not Session(file, cache=cache, digest=DIGEST).from_cache


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_cache(file: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    session = Session(file, cache=GraphCache(blocked, max_bytes=LARGE), digest=DIGEST)
    session.keep_optimized(X, share=ALWAYS)
    assert session.run(X, ["y"])[0].shape == (2, 4)


def test_what_was_not_used_for_longest_makes_room(tmp_path: Path, file: Path) -> None:
    unbounded = GraphCache(tmp_path / "optimized", max_bytes=LARGE)
    kept = [fill(unbounded, file, f"sha256:{number}") for number in range(3)]
    for age_s, path in zip((300, 200, 100), kept, strict=True):
        os.utime(path, (path.stat().st_mtime - age_s,) * 2)
    # The oldest is used, so that the second is the next to go.
    assert Session(file, cache=unbounded, digest="sha256:0").from_cache
    size = kept[0].stat().st_size
    GraphCache(unbounded.folder, max_bytes=2 * size).make_room()
    assert [path.exists() for path in kept] == [True, False, True]
    assert [path.with_suffix(".json").exists() for path in kept] == [True, False, True]


def test_a_cache_without_room_for_one_graph_keeps_none(tmp_path: Path, file: Path) -> None:
    cache = GraphCache(tmp_path / "optimized", max_bytes=1)
    Session(file, cache=cache, digest=DIGEST).keep_optimized(X, share=ALWAYS)
    assert list(cache.folder.glob("*.onnx")) == []
    assert not Session(file, cache=cache, digest=DIGEST).from_cache


def test_nothing_half_written_is_left(cache: GraphCache, file: Path) -> None:
    fill(cache, file)
    assert {path.suffix for path in cache.folder.iterdir()} == {".onnx", ".json"}
    assert len(list(cache.folder.iterdir())) == 2


def test_what_a_killed_writer_left_is_removed_once_it_is_old(cache: GraphCache, file: Path) -> None:
    with make_entry(cache).writing() as young, make_entry(cache).writing() as old:
        young.write_bytes(b"half")
        old.write_bytes(b"half")
        os.utime(old, (0, 1))
        GraphCache(cache.folder, max_bytes=0).make_room()
        assert (young.exists(), old.exists()) == (True, False)


def test_a_writer_that_fails_leaves_nothing(cache: GraphCache) -> None:
    entry = make_entry(cache)

    def fail() -> None:
        with entry.writing() as path:
            path.write_bytes(b"half")
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(cache.folder.iterdir()) == []
    assert not entry.is_known


def test_records_of_what_does_not_pay_are_bounded(cache: GraphCache) -> None:
    for number in range(300):
        make_entry(cache, f"sha256:{number}").refuse("it does not open faster", {})
    cache.make_room()
    assert len(list(cache.folder.glob("*.json"))) <= 256


def test_a_graph_that_was_optimised_before_is_not_optimised_again(cache: GraphCache, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    onnxruntime.InferenceSession(linear().content, options, providers=["CPUExecutionProvider"])
    session = Session(tmp_path / "model.ort", cache=cache, digest=DIGEST)
    session.keep_optimized({"x": np.ones((1, 16), np.float32)})
    assert not cache.folder.exists()


def test_every_shipped_graph_gives_the_same_bits_from_the_cache(models_dir: Path, tmp_path: Path) -> None:
    for manifest in sorted(models_dir.glob("*/*/*/artifact.json")):
        artifact = read_artifact(manifest.parent)
        golden = artifact.read_golden()
        cache = GraphCache(tmp_path / artifact.name, max_bytes=LARGE)
        for key, graph in artifact.graphs.items():
            prefix = f"{key}/in/"
            inputs = {
                name.removeprefix(prefix): array for name, array in golden.items() if name.startswith(prefix)
            }
            names = [tensor.name for tensor in graph.outputs]
            options = {"shapes_vary": graph.shapes_vary, "cache": cache, "digest": artifact.digest}
            file = artifact.graph_file(key)
            plain = Session(file, intra_op_threads=2, **options)
            plain.keep_optimized(inputs, share=ALWAYS)
            # One of them is another number of threads than it was made with.
            for threads in (1, 2):
                again = Session(file, intra_op_threads=threads, **options)
                if file.suffix == ".ort":
                    continue  # optimised already
                assert again.from_cache
                other = plain if threads == 2 else Session(file, intra_op_threads=1)
                for one, two in zip(other.run(inputs, names), again.run(inputs, names), strict=True):
                    assert one.tobytes() == two.tobytes(), f"{artifact.name}.{key}"


def make_entry(cache: GraphCache, digest: str = DIGEST) -> CachedGraph:
    return cache.entry(digest, "model.onnx", provider="CPUExecutionProvider", options={})
