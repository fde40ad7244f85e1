"""A tuning of real graphs, through real batchers and sessions."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cli.tune.measure import Bench, Workload
from cli.tune.rounds import NothingFitsError, tune
from shared.inference.isolation.isolation import Isolation
from shared.inference.machine import describe_cpu, describe_runtime
from shared.inference.repository.loading import LoadedModel, load_model
from shared.inference.session.cores import CoreBudget
from shared.inference.settings import InferenceSettings, ModelSettings
from shared.inference.tuning.values import Figures, TunedValues
from tests.shared.inference.graphs import batch_wide, linear, two_of_each, write_model
from tests.support.signing import UNSIGNED
from tests.support.waiting import within

LIMIT_S = 60.0


class Seen:
    """What a tuning told."""

    def __init__(self) -> None:
        self.planned: list[int] = []
        self.measured: list[TunedValues] = []

    def plan(self, steps: int) -> None:
        self.planned.append(steps)

    def advance(self, values: TunedValues, figures: Figures) -> None:
        self.measured.append(values)


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSORIUM_STATE_DIR", str(tmp_path / "state"))


def load(folder: Path, **said: int) -> LoadedModel:
    settings = InferenceSettings(
        signature=UNSIGNED, cores=2, models={folder.parent.name: ModelSettings.model_validate(said)}
    )
    return load_model(folder, "test", settings, Isolation.off())


async def test_it_measures_all_shapes_and_batches_and_keeps_the_best_of_those_within_the_target(
    tmp_path: Path,
) -> None:
    folder = write_model(tmp_path, "linear", linear(max_batch_size=4)).folder
    seen = Seen()
    tuned = await within(
        tune(
            folder,
            "test",
            InferenceSettings(signature=UNSIGNED, cores=2),
            target_s=1.0,
            rounds=2,
            window_s=0.05,
            watcher=seen,
        ),
        LIMIT_S,
    )
    assert (tuned.model, tuned.version, tuned.cores) == ("test/linear", "1", 2)
    assert (tuned.runtime, tuned.cpu, tuned.provider) == (
        describe_runtime(),
        describe_cpu(),
        "CPUExecutionProvider",
    )
    tried = {
        (each.values.intra_op_threads, each.values.instances, each.values.max_batch_size)
        for each in tuned.candidates
    }
    assert tried == {(*shape, batch) for shape in ((1, 1), (1, 2), (2, 1)) for batch in (1, 2, 4)}
    assert tuned.best in tuned.candidates
    assert {each.values.target_batch_s for each in tuned.candidates} == {1.0}
    assert tuned.best.figures.latency_s <= 1.0
    assert tuned.best.figures.items_per_s > 0
    # Everything once, what may win once more, as was announced.
    assert len(seen.measured) == seen.planned[-1]
    assert set(seen.measured[:9]) == set(seen.measured)


async def test_a_target_that_nothing_meets_is_said_with_what_comes_nearest(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "linear", linear()).folder
    with pytest.raises(NothingFitsError) as caught:
        await within(
            tune(
                folder,
                "test",
                InferenceSettings(signature=UNSIGNED, cores=1),
                target_s=1e-7,
                rounds=1,
                window_s=0.05,
                watcher=Seen(),
            ),
            LIMIT_S,
        )
    # Larger batches were not tried: the smallest takes too long already.
    assert caught.value.candidates == 1
    assert caught.value.nearest.values.max_batch_size == 1


async def test_a_bench_forms_the_batches_that_it_is_told_to(tmp_path: Path) -> None:
    loaded = load(write_model(tmp_path, "linear", linear(max_batch_size=8)).folder, intra_op_threads=1)
    values = TunedValues(max_batch_size=4, target_batch_s=3600, intra_op_threads=1, instances=1)
    bench = Bench.start(loaded, Workload(loaded), values, CoreBudget(2))
    try:
        figures = await within(bench.measure(0.2), LIMIT_S)
    finally:
        await within(bench.close())
    assert 1 <= figures.rows <= 4
    assert figures.latency_s > 0
    assert figures.cpu_s_per_item > 0


async def test_a_graph_that_quantizes_over_its_batch_runs_row_by_row_whatever_is_tried(
    tmp_path: Path,
) -> None:
    loaded = load(write_model(tmp_path, "wide", batch_wide()).folder, intra_op_threads=1)
    values = TunedValues(max_batch_size=8, target_batch_s=3600, intra_op_threads=1, instances=1)
    bench = Bench.start(loaded, Workload(loaded), values, CoreBudget(2))
    try:
        figures = await within(bench.measure(0.05), LIMIT_S)
    finally:
        await within(bench.close())
    assert figures.rows == 1


async def test_an_item_of_several_graphs_is_one_run_of_each(tmp_path: Path) -> None:
    artifact = write_model(
        tmp_path,
        "two",
        one=linear(file="one.onnx"),
        other=dataclasses.replace(two_of_each(), file="other.onnx"),
    )
    loaded = load(artifact.folder, intra_op_threads=1)
    values = TunedValues(max_batch_size=1, target_batch_s=3600, intra_op_threads=1, instances=1)
    bench = Bench.start(loaded, Workload(loaded), values, CoreBudget(2))
    try:
        await within(bench.workload.run(bench.model, 0))
        counts = [
            graph.batcher.statistics.to_message(graph.name, "1").inference_count
            for graph in bench.model.graphs.values()
        ]
    finally:
        await within(bench.close())
    assert counts == [1, 1]


def test_golden_rows_are_items(tmp_path: Path) -> None:
    loaded = load(write_model(tmp_path, "linear", linear()).folder)
    assert loaded.golden_inputs["model"]["x"].shape == (1, 16)
    with pytest.raises(ValueError, match="golden inputs: expected some"):
        Workload(dataclasses.replace(loaded, golden_inputs={}))
    three = {"model": {"x": np.eye(3, 16, dtype=np.float32)}}
    Workload(dataclasses.replace(loaded, golden_inputs=three))
