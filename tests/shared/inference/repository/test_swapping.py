"""One version takes over from another: no call is lost, nothing damaged takes over, what ends is closed."""

from __future__ import annotations

import asyncio
import gc
import io
import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from prometheus_client import CollectorRegistry

from shared.errors import FailedPrecondition, Unavailable
from shared.inference.artifact import ArtifactError, write_artifact
from shared.inference.model import Model
from shared.inference.repository.per_artifact import PerArtifact
from shared.inference.repository.repository import Repository
from shared.rpc.deadline import Deadline, set_deadline
from tests.shared.inference.graphs import draft_of, entry_of, linear, slow, write_model
from tests.shared.inference.repository.opened import READY, UNAVAILABLE, get_reason, get_states, loaded, until
from tests.support.waiting import within

X = np.ones((1, 16), np.float32)


def serving_version(repository: Repository) -> str:
    return repository.model("line", "DoTask").artifact.version


async def ask(model: Model) -> str:
    await within(model.infer({"x": X}, deadline=Deadline.after(5)))
    return model.artifact.version


async def test_a_new_version_takes_over_and_the_old_one_ends_with_its_last_call(tmp_path: Path) -> None:
    write_model(tmp_path, "line", linear(), version="1")
    async with loaded(tmp_path) as repository:
        held = repository.model("line", "DoTask")
        batcher = held.graphs["model"].batcher
        write_model(tmp_path, "line", linear(), version="2")
        version = await within(repository.load_model("line"))
        assert (version.version, serving_version(repository)) == ("2", "2")
        assert get_states(repository) == {("line", "2"): READY}
        # A call that began before, with as many steps as it has.
        assert [await ask(held) for _ in range(3)] == ["1"] * 3
        with pytest.raises(
            Unavailable, match="version 1 of model test/line is unavailable: it is not loaded"
        ):
            repository.graph("line", "1")
        del held
        await within(repository.wait_settled())
        with pytest.raises(Unavailable, match="it is being closed"):
            await within(batcher.submit({"x": X}, (), Deadline.after(5)))


async def test_a_version_is_loaded_even_if_the_deadline_passes_of_the_call_that_asked_for_it(
    tmp_path: Path,
) -> None:
    write_model(tmp_path, "line", linear(), version="1")
    async with loaded(tmp_path) as repository:
        made = PerArtifact(
            {"numbers/1": lambda artifact: artifact.version}, rpc="DoTask", repository=repository
        )
        write_model(tmp_path, "line", linear(), version="2")

        async def ask_to_load() -> None:
            set_deadline(Deadline.after(-1.0))
            await repository.load_model("line")

        await within(asyncio.create_task(ask_to_load()))
        assert serving_version(repository) == "2"
        assert await made.get(repository.model("line", "DoTask")) == "2"


async def test_a_call_that_names_a_graph_only_holds_its_version_too(tmp_path: Path) -> None:
    write_model(tmp_path, "line", linear(), version="1")
    async with loaded(tmp_path) as repository:
        graph = repository.graph("line")
        write_model(tmp_path, "line", linear(), version="2")
        await within(repository.load_model("line"))
        answer = await within(graph.infer({"x": X}, (), Deadline.after(5)))
        assert answer.outputs["y"].shape == (1, 4)
        del graph
        await within(repository.wait_settled())


async def test_calls_that_hold_a_version_too_long_are_answered_unavailable(tmp_path: Path) -> None:
    write_model(tmp_path, "line", linear(), version="1")
    async with loaded(tmp_path, retire_timeout_s=0.0) as repository:
        held = repository.model("line", "DoTask")
        write_model(tmp_path, "line", linear(), version="2")
        await within(repository.load_model("line"))
        await within(repository.wait_settled())
        with pytest.raises(Unavailable, match="it is being closed"):
            await ask(held)


async def test_a_version_that_only_a_circle_of_objects_holds_ends(tmp_path: Path) -> None:
    write_model(tmp_path, "line", linear(), version="1")
    gc.disable()
    try:
        async with loaded(tmp_path) as repository:
            circle: list[object] = [repository.model("line", "DoTask")]
            circle.append(circle)
            gone = weakref.ref(circle[0])
            del circle
            write_model(tmp_path, "line", linear(), version="2")
            await within(repository.load_model("line"))
            assert gone() is not None
            await within(repository.wait_settled())
            assert gone() is None
    finally:
        gc.enable()


async def test_no_call_is_lost_while_versions_follow_one_another(tmp_path: Path) -> None:
    write_model(tmp_path, "line", linear(), version="1")
    async with loaded(tmp_path) as repository:
        seen: list[int] = []
        done = asyncio.Event()

        async def call() -> None:
            while not done.is_set():
                seen.append(int(await ask(repository.model("line", "DoTask"))))

        async with asyncio.TaskGroup() as callers:
            for _ in range(8):
                callers.create_task(call())
            for number in range(2, 8):
                write_model(tmp_path, "line", linear(), version=str(number))
                await within(repository.load_model("line"))
                shutil.rmtree(tmp_path / "line" / str(number - 1))
            done.set()
        assert {1, 6} <= set(seen)
        assert await ask(repository.model("line", "DoTask")) == "7"
        assert get_states(repository) == {("line", "7"): READY}


def flip(folder: Path) -> None:
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)


def truncate(folder: Path) -> None:
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content[: len(content) // 2])


def write_damaged(models_dir: Path, damage: Callable[[Path], object]) -> None:
    write_model(models_dir, "line", linear(), version="2")
    damage(models_dir / "line" / "2")


def write_opset_99(models_dir: Path) -> None:
    graph = linear()
    model = onnx.load_from_string(graph.content)
    model.opset_import[0].version = 99
    write_model(models_dir, "line", replace(graph, content=model.SerializeToString()), version="2")


def write_cut_graph(models_dir: Path) -> None:
    draft = draft_of(linear())
    graph = draft.graphs["model"]
    cut = replace(graph, content=graph.content[:-40])
    write_artifact(models_dir, entry_of("line", "2"), replace(draft, graphs={"model": cut}))


def write_other_answers(models_dir: Path) -> None:
    draft = draft_of(linear())
    golden = {**draft.golden, "model/out/y": draft.golden["model/out/y"] + np.float32(0.5)}
    write_artifact(models_dir, entry_of("line", "2"), replace(draft, golden=golden))


@pytest.mark.parametrize(
    ("write", "kind", "reason"),
    [
        (
            lambda root: write_damaged(root, flip),
            "artifact",
            r"model\.onnx: expected sha256 [0-9a-f]{64}, got",
        ),
        (
            lambda root: write_damaged(root, truncate),
            "artifact",
            r"model\.onnx: expected \d+ bytes, got \d+; pull",
        ),
        (
            lambda root: write_damaged(root, lambda folder: (folder / "model.onnx").unlink()),
            "artifact",
            r"model\.onnx is missing; pull",
        ),
        (
            lambda root: write_damaged(root, lambda folder: (folder / "artifact.json").unlink()),
            "artifact",
            r"artifact\.json is missing",
        ),
        (
            write_opset_99,
            "graph",
            r"model\.onnx cannot be opened: expected opset \d+ of ai\.onnx or lower, got opset 99",
        ),
        (write_cut_graph, "graph", r"model\.onnx cannot be opened: Protobuf parsing failed"),
        (write_other_answers, "golden", r"max difference 0\.5 from the golden output, tolerance"),
    ],
    ids=["bit-flipped", "truncated", "missing-file", "no-manifest", "opset-99", "cut-graph", "other-answers"],
)
async def test_what_is_damaged_is_refused_and_the_old_version_serves_on(
    tmp_path: Path, write: Callable[[Path], object], kind: str, reason: str
) -> None:
    write_model(tmp_path, "line", linear(), version="1")
    async with loaded(tmp_path) as repository:
        write(tmp_path)
        with pytest.raises(
            FailedPrecondition,
            match=f"version 2 of model test/line was refused, version 1 serves on: .*{reason}",
        ):
            await within(repository.load_model("line"))
        assert await ask(repository.model("line", "DoTask")) == "1"
        assert get_states(repository) == {("line", "2"): UNAVAILABLE, ("line", "1"): READY}
        told = get_reason(repository, "line", "2")
        with pytest.raises(Unavailable, match=reason):
            repository.graph("line", "2")
        registry = CollectorRegistry()
        registry.register(repository.make_collector())
        count = {"model": "line", "version": "2", "outcome": kind}
        assert registry.get_sample_value("sensorium_inference_loads_total", count) == 1
        state = {"model": "line", "version": "2", "state": "unavailable", "reason": told[:200]}
        assert registry.get_sample_value("sensorium_inference_version_state", state) == 1
        # It is tried again when somebody asks, and when its folder is another.
        with pytest.raises(FailedPrecondition):
            await within(repository.load_model("line"))
        assert registry.get_sample_value("sensorium_inference_loads_total", count) == 2
        shutil.rmtree(tmp_path / "line" / "2")
        write_model(tmp_path, "line", linear(), version="2")
        await within(repository.load_model("line"))
        assert get_states(repository) == {("line", "2"): READY}


async def test_a_version_of_which_a_service_can_make_nothing_does_not_take_over(tmp_path: Path) -> None:
    write_model(tmp_path, "line", linear(), version="1")
    write_model(tmp_path, "other", linear(), version="1")
    made: list[str] = []

    def make(artifact: object) -> str:
        made.append(getattr(artifact, "version", ""))
        if made[-1] == "2":
            raise ArtifactError("constant 'scale' is missing")
        return made[-1]

    async with loaded(tmp_path) as repository:
        kept = PerArtifact({"numbers/1": make}, rpc="DoTask", repository=repository)
        PerArtifact({"text/1": make}, rpc="DoOther", repository=repository)
        write_model(tmp_path, "line", linear(), version="2")
        with pytest.raises(
            FailedPrecondition, match="version 1 serves on: its artifact does not say what DoTask"
        ):
            await within(repository.load_model("line"))
        assert serving_version(repository) == "1"
        write_model(tmp_path, "line", linear(), version="3")
        await within(repository.load_model("line"))
        model = repository.model("line", "DoTask")
        assert made == ["2", "3"]
        assert await within(kept.get(model)) == "3"
        assert made == ["2", "3"]


async def test_loads_that_are_asked_for_at_once_are_one(tmp_path: Path) -> None:
    write_model(tmp_path, "line", linear(), version="1")
    async with loaded(tmp_path) as repository:
        write_model(tmp_path, "line", linear(), version="2")
        done = await within(asyncio.gather(*(repository.load_model("test/line") for _ in range(20))))
        assert {version.version for version in done} == {"2"}
        registry = CollectorRegistry()
        registry.register(repository.make_collector())
        count = {"model": "line", "version": "2", "outcome": "ready"}
        assert registry.get_sample_value("sensorium_inference_loads_total", count) == 1


async def test_a_version_that_is_written_anew_under_its_name_takes_over(tmp_path: Path) -> None:
    write_model(tmp_path, "line", linear(), version="1")
    async with loaded(tmp_path) as repository:
        before = repository.model("line", "DoTask").artifact.digest
        entry = entry_of("line", "1", description="Another.")
        write_artifact(tmp_path, entry, draft_of(linear()), replace=True)
        await within(repository.load_model("line"))
        after = repository.model("line", "DoTask").artifact
        assert after.digest != before
        assert after.description == "Another."
        assert get_states(repository) == {("line", "1"): READY}


async def test_a_version_whose_files_were_only_touched_serves_on(tmp_path: Path) -> None:
    artifact = write_model(tmp_path, "line", linear(), version="1")
    async with loaded(tmp_path) as repository:
        before = repository.model("line", "DoTask")
        (artifact.folder / "labels.txt").touch()
        await within(repository.load_model("line"))
        assert repository.model("line", "DoTask") is before
        assert get_states(repository) == {("line", "1"): READY}


async def test_what_is_damaged_in_place_is_told_and_what_is_in_memory_serves_on(tmp_path: Path) -> None:
    artifact = write_model(tmp_path, "line", linear(), version="1")
    async with loaded(tmp_path) as repository:
        flip(artifact.folder)
        with pytest.raises(FailedPrecondition, match=r"version 1 serves on: .*sha256"):
            await within(repository.load_model("line"))
        assert await ask(repository.model("line", "DoTask")) == "1"


async def test_a_hang_takes_a_version_out_at_once_and_the_one_before_takes_over(tmp_path: Path) -> None:
    golden = np.array([3])
    draft = replace(draft_of(slow()), golden={"model/in/x": golden, "model/out/y": golden})
    for version in ("1", "2"):
        write_artifact(tmp_path, entry_of("turns", version), draft)
    async with loaded(tmp_path) as repository:
        model = repository.model("turns", "DoTask")
        forever = asyncio.create_task(
            model.infer({"x": np.array([2**62])}, deadline=Deadline.after(60))  # held until it is stopped
        )
        await asyncio.sleep(0)
        repository.take_out("test/turns", "2", "a run hangs")
        with pytest.raises(Unavailable, match="a run hangs"):
            repository.model("turns", "DoTask")
        with pytest.raises(Unavailable, match="it is being closed"):
            await within(forever)
        await until(repository, lambda: get_states(repository)["turns", "1"] == READY)
        assert get_states(repository) == {("turns", "2"): UNAVAILABLE, ("turns", "1"): READY}
        assert get_reason(repository, "turns", "2") == "a run hangs"
        assert (await within(repository.load_model("turns", "2"))).version == "2"
        assert repository.model("turns", "DoTask").artifact.version == "2"


async def test_limits_of_a_swap_are_logged_with_versions(tmp_path: Path, logged: io.StringIO) -> None:
    write_model(tmp_path, "line", linear(), version="1")
    async with loaded(tmp_path) as repository:
        write_model(tmp_path, "line", linear(), version="2")
        flip(tmp_path / "line" / "2")
        with pytest.raises(FailedPrecondition):
            await within(repository.load_model("line"))
    said = logged.getvalue()
    assert "model unavailable" in said
    assert '"version": "2"' in said
    assert "sha256" in said
