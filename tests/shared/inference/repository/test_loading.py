"""What loading makes of settings: precisions, providers, tuned values, optimised graphs, and what is told of it."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from shared.inference.artifact import Artifact, GraphDraft, Tensor, read_artifact, write_artifact
from shared.inference.isolation.isolation import Isolation
from shared.inference.machine import describe_cpu, describe_runtime
from shared.inference.manifest import ArtifactError
from shared.inference.model import Model
from shared.inference.oip.config import make_config
from shared.inference.repository.golden import GoldenError
from shared.inference.repository.loading import LoadedModel, load_model
from shared.inference.settings import InferenceSettings, ModelSettings
from shared.inference.tuning.record import TunedFolder
from shared.inference.tuning.values import Candidate, Figures, Tuned, TunedValues
from shared.settings import state_dir
from tests.shared.inference.graphs import WEIGHTS, batch_wide, draft_graph, draft_of, entry_of, linear
from tests.support.signing import UNSIGNED
from tests.support.waiting import within

CPU = "CPUExecutionProvider"
TUNED = TunedValues(max_batch_size=4, target_batch_s=0.05, intra_op_threads=2, instances=3)


def variant(scale: float) -> bytes:
    """The linear graph with other weights, as another precision gives them: a little off."""
    return draft_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [Tensor("x", "FP32", (-1, 16))],
        [Tensor("y", "FP32", (-1, 4))],
        {"w": (WEIGHTS * np.float32(scale))},
    ).content


def write(folder: Path, graph: GraphDraft, tolerance: dict[str, dict[str, float]] | None = None) -> Artifact:
    draft = draft_of(graph)
    if tolerance is not None:
        draft = dataclasses.replace(draft, tolerance={**draft.tolerance, **tolerance})
    return write_artifact(folder, entry_of("linear"), draft)


def write_variants(folder: Path, tolerance: dict[str, dict[str, float]] | None = None) -> Artifact:
    graph = dataclasses.replace(
        linear(), precision="fp32", variants={"int8": ("model.int8.onnx", variant(1.01))}
    )
    return write(folder, graph, tolerance)


LOOSE = {f"{CPU}/int8": {"rtol": 0.02, "atol": 1e-3}}


def load(artifact: Artifact, **said: Any) -> LoadedModel:
    return load_model(
        artifact.folder, "test", InferenceSettings(signature=UNSIGNED, cores=8, **said), Isolation.off()
    )


async def read_parameters(loaded: LoadedModel) -> dict[str, str]:
    """The parameters of the ModelConfig of its graph."""
    model = Model(loaded)
    try:
        (graph,) = model.graphs.values()
        config = make_config("linear", graph, []).config
    finally:
        await within(model.close())
    told = {key: value.string_value for key, value in config.parameters.items()}
    return {**told, "file": config.default_model_filename, "count": str(config.instance_group[0].count)}


def keep_tuned(artifact: Artifact, cores: int = 8, **changed: Any) -> None:
    candidate = Candidate(
        values=TUNED,
        figures=Figures(items_per_s=1, latency_s=0.01, alone_s=0.01, cpu_s_per_item=0.01, rows=4),
    )
    tuned = Tuned(
        model=f"test/{artifact.name}",
        version=artifact.version,
        digest=artifact.digest,
        runtime=describe_runtime(),
        provider=CPU,
        cpu=describe_cpu(),
        cores=cores,
        measured_at="2026-01-01T00:00:00+00:00",
        latency_target_s=0.05,
        best=candidate,
        candidates=(candidate,),
    )
    TunedFolder(state_dir()).keep(tuned.model_copy(update=changed))


async def test_its_own_file_runs_where_no_precision_is_asked_for(tmp_path: Path) -> None:
    loaded = load(write_variants(tmp_path, LOOSE))
    assert loaded.graphs["model"].precision == "fp32"
    told = await read_parameters(loaded)
    assert (told["precision"], told["file"]) == ("fp32", "model.onnx")


async def test_the_precision_that_is_asked_for_runs_where_there_is_a_file_of_it(tmp_path: Path) -> None:
    loaded = load(write_variants(tmp_path, LOOSE), models={"linear": ModelSettings(precision="int8")})
    x = np.ones((1, 16), np.float32)
    (y,) = loaded.graphs["model"].session.run({"x": x}, ["y"])
    np.testing.assert_allclose(y, x @ WEIGHTS * 1.01, rtol=1e-5)
    told = await read_parameters(loaded)
    assert (told["precision"], told["file"]) == ("int8", "model.int8.onnx")


def test_a_precision_that_is_not_to_be_had_is_told_and_its_own_file_runs(
    tmp_path: Path, logged: io.StringIO
) -> None:
    loaded = load(write_variants(tmp_path, LOOSE), precision="fp16")
    assert loaded.graphs["model"].precision == "fp32"
    assert "precision is not to be had" in logged.getvalue()


@pytest.mark.parametrize(
    ("tolerance", "message"),
    [
        (None, rf"expected one for {CPU}/int8, got those for {CPU}$"),
        ({f"{CPU}/int8": {"rtol": 1e-4, "atol": 1e-4}}, "max difference"),
    ],
)
def test_a_variant_is_held_to_a_tolerance_of_its_own(
    tmp_path: Path, tolerance: dict[str, dict[str, float]] | None, message: str
) -> None:
    artifact = write_variants(tmp_path, tolerance)
    with pytest.raises(GoldenError, match=message):
        load(artifact, precision="int8")
    load(artifact, precision="fp32")


def test_variants_are_in_the_manifest_and_their_digests_are_checked(tmp_path: Path) -> None:
    artifact = write_variants(tmp_path, LOOSE)
    document = json.loads((artifact.folder / "artifact.json").read_text())
    assert document["graphs"]["model"]["variants"] == {"int8": "model.int8.onnx"}
    assert set(document["files"]) >= {"model.onnx", "model.int8.onnx"}
    (artifact.folder / "model.int8.onnx").write_bytes(b"no graph")
    with pytest.raises(ArtifactError, match=r"model\.int8\.onnx: expected"):
        load(artifact)
    document["graphs"]["model"]["precision"] = "int8"
    (artifact.folder / "artifact.json").write_text(json.dumps(document))
    with pytest.raises(
        ArtifactError, match=r"variants: expected precisions other than its own file's, got int8"
    ):
        read_artifact(artifact.folder)


def test_a_graph_without_either_says_nothing_of_them(tmp_path: Path) -> None:
    document = json.loads((write(tmp_path, linear()).folder / "artifact.json").read_text())
    assert document["graphs"]["model"].keys() == {"file", "inputs", "outputs", "max_batch_size"}


async def test_providers_that_were_passed_over_are_told(tmp_path: Path, logged: io.StringIO) -> None:
    loaded = load(write(tmp_path, linear()), providers=("cuda", "cpu"))
    reason = "CUDAExecutionProvider: not in this build of ONNX Runtime"
    assert (loaded.provider, loaded.provider_reason) == (CPU, reason)
    assert "execution provider fell back" in logged.getvalue()
    told = await read_parameters(loaded)
    assert (told["execution_provider"], told["execution_provider_reason"]) == (CPU, reason)


async def test_where_nothing_was_passed_over_nothing_is_told(tmp_path: Path, logged: io.StringIO) -> None:
    loaded = load(write(tmp_path, linear()))
    assert loaded.provider_reason == ""
    assert "fell back" not in logged.getvalue()
    assert "execution_provider_reason" not in await read_parameters(loaded)


async def test_a_graph_that_quantizes_over_its_batch_runs_row_by_row_and_says_so(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, batch_wide()))
    assert loaded.graphs["model"].max_batch_size == 1
    assert (await read_parameters(loaded))["runs_row_by_row"] == "it quantizes over all rows of a run"
    told = await read_parameters(load(write(tmp_path / "other", linear())))
    assert "runs_row_by_row" not in told


async def test_what_tuning_found_is_used_and_told(tmp_path: Path, logged: io.StringIO) -> None:
    artifact = write(tmp_path, linear())
    keep_tuned(artifact)
    loaded = load(artifact, models={"linear": ModelSettings(instances=2)})
    assert (loaded.settings.intra_op_threads, loaded.settings.instances) == (2, 2)
    assert loaded.graphs["model"].max_batch_size == 4
    assert loaded.graphs["model"].session.threads == 2
    assert loaded.tuned == {"intra_op_threads": 2, "max_batch_size": 4, "target_batch_s": 0.05}
    assert "model is tuned" in logged.getvalue()
    told = await read_parameters(loaded)
    assert told["tuned"] == "intra_op_threads=2, max_batch_size=4, target_batch_s=0.05"
    assert (told["intra_op_threads"], told["count"]) == ("2", "2")


@pytest.mark.parametrize(
    "changed", [{"digest": "sha256:other"}, {"provider": "CUDAExecutionProvider"}, {"model": "test/other"}]
)
async def test_what_was_found_for_something_else_is_not_used(tmp_path: Path, changed: dict[str, str]) -> None:
    artifact = write(tmp_path, linear())
    keep_tuned(artifact, **changed)
    loaded = load(artifact)
    assert loaded.tuned == {}
    assert loaded.settings.intra_op_threads == 8
    assert "tuned" not in await read_parameters(loaded)


@pytest.mark.parametrize("content", ["", "{", '{"model": 1}'])
def test_a_damaged_record_is_told_and_not_used(tmp_path: Path, content: str, logged: io.StringIO) -> None:
    artifact = write(tmp_path, linear())
    keep_tuned(artifact)
    (record,) = (state_dir() / "tuned").glob("*.json")
    record.write_text(content)
    assert load(artifact).tuned == {}
    assert "tuned settings cannot be read" in logged.getvalue()


async def test_a_model_opens_faster_the_second_time_where_that_pays(tmp_path: Path) -> None:
    artifact = write(tmp_path, linear())
    loaded = load(artifact)
    assert (await read_parameters(loaded))["optimized_graph"] == "made at load"
    session = loaded.graphs["model"].session
    session.keep_optimized(loaded.golden_inputs["model"], share=1000.0)
    again = load(artifact)
    assert again.graphs["model"].session.from_cache
    assert (await read_parameters(again))["optimized_graph"] == "from the cache"
    assert not load(artifact, graph_cache_bytes=0).graphs["model"].session.from_cache


def test_providers_of_graphs_that_differ_are_told_by_graph(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, linear()), providers=("cuda", "cpu"))
    plain = load(write(tmp_path / "other", linear()))
    graphs: Sequence[Any] = (loaded.graphs["model"], plain.graphs["model"])
    both = dataclasses.replace(loaded, graphs=dict(zip(("one", "other"), graphs, strict=True)))
    assert both.provider_reason == "graph one: CUDAExecutionProvider: not in this build of ONNX Runtime"
