"""Which models serve, why others do not, and by which names they are found."""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sensorium.mesh.v1.replica_service_pb2 import ModelStatus

from shared.errors import InvalidArgument, NotFound, Unavailable
from shared.inference.artifact import Tensor, write_artifact
from shared.inference.repository.catalog import read_catalog
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from shared.rpc.deadline import Deadline
from tests.shared.inference.graphs import (
    WEIGHTS,
    batch_wide,
    draft_of,
    entry_of,
    hungry,
    identity,
    linear,
    slow,
    summed,
    two_of_each,
    write_model,
)
from tests.shared.inference.repository.opened import (
    LOADING,
    READY,
    UNAVAILABLE,
    get_reason,
    get_states,
    loaded,
)
from tests.support.signing import UNSIGNED
from tests.support.waiting import within


async def test_a_model_answers_by_each_of_its_names(tmp_path: Path) -> None:
    write_model(tmp_path, "line", linear())
    async with loaded(tmp_path, {"line": {"default_for": ["DoTask", "DoOther"]}}) as repository:
        for name in ("line", "test/line", ""):
            model = repository.model(name, "DoTask")
            assert model.name == "test/line"
            assert (model.ref().name, model.ref().version) == ("test/line", "1")
        assert repository.model("", "DoOther") is model
        x = np.ones((1, 16), np.float32)
        answer = await within(model.infer({"x": x}, deadline=Deadline.after(5)))
        np.testing.assert_array_equal(answer.outputs["y"], x @ WEIGHTS)
        with pytest.raises(NotFound, match="line"):
            repository.model("lime", "DoTask")
        with pytest.raises(NotFound):
            repository.model("other/line", "DoTask")
        with pytest.raises(NotFound):
            repository.model("", "DoNothing")


async def test_a_model_for_another_rpc_is_refused_with_those_that_fit(tmp_path: Path) -> None:
    write_model(tmp_path, "line", linear())
    write_artifact(tmp_path, entry_of("same", task="DoOther"), draft_of(identity("FP32")))
    async with loaded(tmp_path) as repository:
        with pytest.raises(InvalidArgument, match="a model for DoTask: line, got same") as refused:
            repository.model("same", "DoTask")
        assert refused.value.field == "model"
        # Without a catalogue, a model made for the rpc is its default.
        assert repository.model("", "DoOther").name == "test/same"


async def test_statuses_say_everything_of_a_ready_model(tmp_path: Path) -> None:
    artifact = write_model(tmp_path, "pair", one=linear(), two=replace(identity("FP32"), file="two.onnx"))
    async with loaded(tmp_path, {"pair": {"default_for": ["DoTask"]}}) as repository:
        (status,) = repository.statuses()
        assert status == ModelStatus(
            name="pair",
            version="1",
            state=READY,
            digest=artifact.digest,
            description="A graph for tests.",
            license="MIT",
            graphs=["pair.one", "pair.two"],
            default_for=["DoTask"],
            execution_provider="CPUExecutionProvider",
        )


async def test_a_model_that_was_never_pulled_says_how_to_pull_it(tmp_path: Path) -> None:
    catalog = {
        "far": {"version": "3", "description": "Far away.", "license": "MIT", "default_for": ["DoTask"]}
    }
    async with loaded(tmp_path / "nothing", catalog) as repository:
        (status,) = repository.statuses()
        assert (status.state, status.version, status.description) == (UNAVAILABLE, "3", "Far away.")
        assert status.reason == "not pulled: run `sensorium models pull far`"
        for name in ("", "far"):
            with pytest.raises(Unavailable, match="sensorium models pull far"):
                repository.model(name, "DoTask")


def damage_graph(folder: Path) -> None:
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (damage_graph, r"model\.onnx: expected sha256 [0-9a-f]{64}, got [0-9a-f]{64}"),
        (lambda folder: (folder / "model.onnx").unlink(), r"model\.onnx is missing"),
        (lambda folder: (folder / "artifact.json").write_text("{"), r"artifact\.json is not JSON"),
        (lambda folder: (folder / "artifact.json").unlink(), r"artifact\.json is missing"),
        (lambda folder: (folder / "golden.npz").write_bytes(b""), r"golden\.npz: expected \d+ bytes, got 0"),
    ],
)
async def test_one_damaged_model_never_stops_the_others(
    tmp_path: Path, damage: Callable[[Path], object], expected: str
) -> None:
    write_model(tmp_path, "aaa", linear())
    damaged = write_model(tmp_path, "bad", linear())
    write_model(tmp_path, "zzz", linear())
    damage(damaged.folder)
    async with loaded(tmp_path) as repository:
        assert get_states(repository) == {("aaa", "1"): READY, ("bad", "1"): UNAVAILABLE, ("zzz", "1"): READY}
        with pytest.raises(Unavailable, match=expected):
            repository.model("bad", "DoTask")


async def test_a_version_that_fails_leaves_the_one_before_it_serving(tmp_path: Path) -> None:
    for version in ("9", "10", "11"):
        write_model(tmp_path, "line", linear(), version=version)
    damage_graph(tmp_path / "line" / "11")
    async with loaded(tmp_path) as repository:
        assert repository.model("line", "DoTask").artifact.version == "10"
        assert get_states(repository) == {("line", "11"): UNAVAILABLE, ("line", "10"): READY}
        assert "sha256" in get_reason(repository, "line")


async def test_half_written_versions_and_locks_are_not_looked_at(tmp_path: Path) -> None:
    write_model(tmp_path, "line", linear())
    (tmp_path / "line" / ".partial-2-abcd").mkdir()
    (tmp_path / ".line.lock").touch()
    (tmp_path / ".trash" / "1").mkdir(parents=True)
    async with loaded(tmp_path) as repository:
        assert get_states(repository) == {("line", "1"): READY}


async def test_golden_outputs_that_differ_name_graph_output_difference_and_tolerance(tmp_path: Path) -> None:
    draft = draft_of(linear())
    golden = dict(draft.golden)
    golden["model/out/y"] = golden["model/out/y"] + np.float32(0.25)
    write_artifact(tmp_path, entry_of("off"), replace(draft, golden=golden))
    async with loaded(tmp_path) as repository:
        assert get_reason(repository, "off") == (
            "graph 'model', output 'y': max difference 0.25 from the golden output, "
            "tolerance 1e-05 relative + 1e-05 absolute (CPUExecutionProvider)"
        )
    async with loaded(tmp_path, golden_check=False) as repository:
        assert get_states(repository) == {("off", "1"): READY}


@pytest.mark.parametrize(
    ("golden", "expected"),
    [
        ({}, "expected inputs ['x'] and at least one output, got inputs [] and outputs []"),
        (
            {"model/in/x": np.ones((1, 16), np.float32), "model/out/y": np.ones((1, 5), np.float32)},
            "graph 'model', output 'y': expected shape [1, 5], got [1, 4]",
        ),
        (
            {"model/in/x": np.ones((1, 3), np.float32), "model/out/y": np.ones((1, 4), np.float32)},
            "graph 'model' fails on its golden inputs: Got invalid dimensions",
        ),
        (
            {"model/in/x": np.ones((1, 16), np.float32), "model/out/z": np.ones((1, 4), np.float32)},
            "graph 'model' fails on its golden inputs: Invalid output name:z",
        ),
    ],
)
async def test_golden_files_that_do_not_fit_are_explained(
    tmp_path: Path, golden: dict[str, Any], expected: str
) -> None:
    write_artifact(tmp_path, entry_of("off"), replace(draft_of(linear()), golden=golden))
    async with loaded(tmp_path) as repository:
        assert expected in get_reason(repository, "off")


async def test_text_and_whole_numbers_must_be_equal(tmp_path: Path) -> None:
    for dtype, wrong in (("BYTES", np.full((1, 1), "other")), ("INT64", np.full((1, 1), 7))):
        draft = draft_of(identity(dtype))
        write_artifact(tmp_path, entry_of(f"good-{dtype}"), draft)
        write_artifact(
            tmp_path, entry_of(f"bad-{dtype}"), replace(draft, golden={**draft.golden, "model/out/y": wrong})
        )
    async with loaded(tmp_path) as repository:
        assert get_states(repository) == {
            ("bad-BYTES", "1"): UNAVAILABLE,
            ("bad-INT64", "1"): UNAVAILABLE,
            ("good-BYTES", "1"): READY,
            ("good-INT64", "1"): READY,
        }
        assert "1 of 1 values differ" in get_reason(repository, "bad-BYTES")


async def test_a_graph_that_only_claims_a_batch_axis_does_not_serve(tmp_path: Path) -> None:
    write_model(tmp_path, "summed", summed())
    async with loaded(tmp_path) as repository:
        assert "in a batch with its copy: expected shape [2, 4], got [1, 4]" in get_reason(
            repository, "summed"
        )


async def test_a_signature_that_differs_does_not_serve(tmp_path: Path) -> None:
    graph = linear()
    write_model(
        tmp_path,
        "line",
        replace(graph, outputs=(*graph.outputs, Tensor("z", "FP32", (-1, 4)))),
    )
    async with loaded(tmp_path) as repository:
        assert "expected output 'z', got y" in get_reason(repository, "line")


async def test_a_model_of_another_service_does_not_serve(tmp_path: Path) -> None:
    write_artifact(tmp_path, entry_of("line", service="other"), draft_of(linear()))
    async with loaded(tmp_path) as repository:
        assert "service: expected 'test', got 'other'" in get_reason(repository, "line")


async def test_batches_are_bounded_by_artifact_setting_and_operators(tmp_path: Path) -> None:
    write_model(tmp_path, "line", linear(max_batch_size=8))
    write_artifact(
        tmp_path,
        entry_of("wide"),
        replace(
            draft_of(batch_wide()),
            golden={"model/in/x": np.zeros((1, 4), np.float32), "model/out/y": np.zeros((1, 4), np.float32)},
        ),
    )
    write_model(tmp_path, "single", linear(max_batch_size=0))
    async with loaded(tmp_path, max_batch_size=5) as repository:
        bounds = {graph.name: graph.batcher.max_batch_size for graph in repository.graphs()}
        assert bounds == {"line": 5, "wide": 1, "single": 0}


async def test_models_load_in_the_background_and_changes_are_told(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_model(tmp_path, name, linear())
    told: list[dict[tuple[str, str], int]] = []
    repository = Repository(tmp_path, "test", InferenceSettings(signature=UNSIGNED, intra_op_threads=1), {})
    repository.on_change = lambda: told.append(get_states(repository))
    assert get_states(repository) == {("one", "1"): LOADING, ("two", "1"): LOADING}
    repository.start()
    assert repository.loading
    with pytest.raises(Unavailable, match="it is being loaded") as refused:
        repository.model("one", "DoTask")
    assert refused.value.retry_after_s == 1.0
    await within(repository.wait_loaded())
    assert not repository.loading
    assert len(told) == 2
    assert told[-1] == {("one", "1"): READY, ("two", "1"): READY}
    await within(repository.close())
    assert told[-1] == {("one", "1"): UNAVAILABLE, ("two", "1"): UNAVAILABLE}


async def test_the_defaults_of_calls_are_loaded_first(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_model(tmp_path, name, linear())
    catalog: dict[str, Any] = {name: {"default_for": ["DoTask"]} if name == "b" else {} for name in "abc"}
    ready: list[str] = []
    repository = Repository(
        tmp_path,
        "test",
        InferenceSettings(signature=UNSIGNED, intra_op_threads=1, load_threads=1),
        catalog,
        on_change=lambda: ready.append(
            next(v.name for v in repository.versions if v.name not in ready and v.model)
        ),
    )
    await within(repository.load_all())
    assert ready == ["b", "a", "c"]
    repository.on_change = None
    await within(repository.close())


async def test_a_model_answers_before_its_batches_are_measured(tmp_path: Path) -> None:
    x = np.ones((1, 512, 1), np.float32)  # 8 MiB on the way, so that rows cost far more than a run
    golden = {"model/in/x": x, "model/out/y": x * 4096}
    write_artifact(tmp_path, entry_of("rows"), replace(draft_of(hungry()), golden=golden))
    at_first: list[float] = []
    repository = Repository(tmp_path, "test", InferenceSettings(signature=UNSIGNED, intra_op_threads=1), {})

    def look() -> None:
        at_first.extend(graph.batcher.worthwhile_cost for graph in repository.graphs())

    repository.on_change = look
    await within(repository.load_all())
    repository.on_change = None
    assert at_first == [math.inf]
    assert repository.graph("rows").batcher.worthwhile_cost < 8
    await within(repository.close())


async def test_a_run_that_takes_all_rows_alike_is_worth_any_batch(tmp_path: Path) -> None:
    x = np.array([3000])  # turns of a loop, however many rows there are
    golden = {"model/in/x": x, "model/out/y": x}
    write_artifact(tmp_path, entry_of("turns"), replace(draft_of(slow()), golden=golden))
    async with loaded(tmp_path) as repository:
        assert repository.graph("turns").batcher.worthwhile_cost == 8


async def test_a_version_that_is_taken_out_while_it_is_measured_stops_neither_loading_nor_closing(
    tmp_path: Path,
) -> None:
    x = np.array([100_000])
    golden = {"model/in/x": x, "model/out/y": x}
    for name in ("taken", "turns"):
        write_artifact(tmp_path, entry_of(name), replace(draft_of(slow()), golden=golden))
    repository = Repository(tmp_path, "test", InferenceSettings(signature=UNSIGNED, intra_op_threads=1), {})
    repository.start()
    async with asyncio.timeout(30):
        while set(get_states(repository).values()) != {READY}:
            await asyncio.sleep(0.001)
    repository.take_out("taken", "1", "it stopped another replica")
    await within(repository.wait_loaded())
    assert get_states(repository) == {("taken", "1"): UNAVAILABLE, ("turns", "1"): READY}
    assert repository.graph("turns").batcher.worthwhile_cost < math.inf
    await within(repository.close())


async def test_close_while_loading_ends_at_once(tmp_path: Path) -> None:
    for number in range(8):
        write_model(tmp_path, f"model-{number}", linear())
    repository = Repository(tmp_path, "test", InferenceSettings(signature=UNSIGNED, intra_op_threads=1), {})
    repository.start()
    await asyncio.sleep(0)
    await within(repository.close())
    assert set(get_states(repository).values()) == {UNAVAILABLE}


async def test_graphs_are_found_by_their_protocol_names(tmp_path: Path) -> None:
    write_model(tmp_path, "line.v2", linear())
    write_model(tmp_path, "pair", one=linear(file="one.onnx"), two=two_of_each())
    async with loaded(tmp_path) as repository:
        assert repository.graph("line.v2").name == "line.v2"
        assert repository.graph("test/pair.two", "1").name == "pair.two"
        with pytest.raises(InvalidArgument, match=r"pair\.one, pair\.two, got pair") as refused:
            repository.graph("pair")
        assert refused.value.field == "model_name"
        for name in ("pair.three", "other", "pair.", "", "test/"):
            with pytest.raises(NotFound):
                repository.graph(name)
        with pytest.raises(NotFound, match="version of model pair"):
            repository.graph("pair.one", "2")
        model = repository.model("pair", "")
        with pytest.raises(NotFound, match="one, two"):
            await within(model.infer({}, deadline=Deadline.after(5)))
        a = np.ones((1, 2), np.float32)
        answer = await within(
            model.infer({"a": a, "b": a}, graph="two", outputs=("sum",), deadline=Deadline.after(5))
        )
        assert answer.outputs["sum"].tolist() == [[2, 2]]


def test_a_catalogue_is_read(tmp_path: Path) -> None:
    (tmp_path / "catalog.toml").write_text('[line]\nversion = "1"\ndefault_for = ["DoTask"]\n')
    assert read_catalog(tmp_path / "catalog.toml") == {"line": {"version": "1", "default_for": ["DoTask"]}}


async def test_settings_of_a_model_that_is_not_there_are_told(tmp_path: Path, logged: io.StringIO) -> None:
    write_model(tmp_path, "line", linear())
    async with loaded(tmp_path, models={"lien": {"instances": 2}}):
        assert '"models": ["lien"], "known": ["line"]' in logged.getvalue()
