"""Which versions are ready and which answers: rules, loads and unloads by call."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest

from shared.errors import FailedPrecondition, NotFound, Unavailable
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings, ModelSettings
from shared.rpc.deadline import Deadline
from tests.shared.inference.graphs import linear, two_of_each, write_model
from tests.shared.inference.repository.opened import READY, UNAVAILABLE, get_reason, get_states, loaded
from tests.support.signing import UNSIGNED
from tests.support.waiting import within


def write_versions(models_dir: Path, *versions: str) -> None:
    for version in versions:
        write_model(models_dir, "line", linear(), version=version)


def break_version(models_dir: Path, version: str) -> None:
    (models_dir / "line" / version / "model.onnx").unlink()


def serving_version(repository: Repository) -> str:
    return repository.model("line", "DoTask").artifact.version


async def test_the_newest_version_that_can_be_loaded_answers(tmp_path: Path) -> None:
    write_versions(tmp_path, "2", "9", "10")
    break_version(tmp_path, "10")
    async with loaded(tmp_path) as repository:
        assert serving_version(repository) == "9"
        assert repository.list_ready("line") == ["9"]


async def test_a_pinned_version_answers_whatever_else_lies_there(tmp_path: Path) -> None:
    write_versions(tmp_path, "1", "2")
    models = {"line": ModelSettings(version="1")}
    async with loaded(tmp_path, models=models) as repository:
        assert serving_version(repository) == "1"
        # Another one is loaded beside it where somebody asks for it by name.
        await within(repository.load_model("line", "2"))
        assert (serving_version(repository), repository.list_ready("line")) == ("1", ["2", "1"])
        assert repository.graph("line", "2").artifact.version == "2"
        write_versions(tmp_path, "3")
        await within(repository.load_model("line"))
        assert serving_version(repository) == "1"


async def test_a_pinned_version_that_is_not_there_is_no_other(tmp_path: Path) -> None:
    write_versions(tmp_path, "1")
    async with loaded(tmp_path, models={"line": ModelSettings(version="7")}) as repository:
        assert get_states(repository) == {("line", "7"): UNAVAILABLE}
        with pytest.raises(Unavailable, match="version 7 is set and not on disk; there are: 1"):
            repository.model("line", "DoTask")
        with pytest.raises(FailedPrecondition, match="version 7 is set and not on disk"):
            await within(repository.load_model("line"))
        write_versions(tmp_path, "7")
        await within(repository.load_model("line"))
        assert serving_version(repository) == "7"


async def test_several_of_the_newest_are_kept_ready_where_set(tmp_path: Path) -> None:
    write_versions(tmp_path, "1", "2", "3")
    async with loaded(tmp_path, ready_versions=2) as repository:
        assert repository.list_ready("line") == ["3", "2"]
        assert [repository.graph("line", version).artifact.version for version in ("", "2", "3")] == [
            "3",
            "2",
            "3",
        ]
        assert repository.model("line", "", "2").artifact.version == "2"
        with pytest.raises(
            Unavailable, match="version 1 of model test/line is unavailable: it is not loaded"
        ):
            repository.graph("line", "1")
        with pytest.raises(NotFound, match='no version of model line is named "4"; those that exist: 2, 3'):
            repository.graph("line", "4")
        write_versions(tmp_path, "4")
        await within(repository.load_model("line"))
        assert repository.list_ready("line") == ["4", "3"]


async def test_a_version_that_is_asked_for_by_name_stays_beside_the_one_that_answers(tmp_path: Path) -> None:
    write_versions(tmp_path, "1", "2")
    async with loaded(tmp_path) as repository:
        await within(repository.load_model("line", "1"))
        assert (serving_version(repository), repository.list_ready("line")) == ("2", ["2", "1"])
        write_versions(tmp_path, "3")
        await within(repository.load_model("line", "3"))
        # The one before it was never asked for by name.
        assert (serving_version(repository), repository.list_ready("line")) == ("3", ["3", "1"])
        await within(repository.unload_model("line", "1"))
        assert repository.list_ready("line") == ["3"]
        assert get_reason(repository, "line", "1") == "unloaded by a call; loading it brings it back"


async def test_unloading_the_one_that_answers_moves_to_the_next(tmp_path: Path) -> None:
    write_versions(tmp_path, "1", "2", "3")
    break_version(tmp_path, "2")
    async with loaded(tmp_path) as repository:
        before = repository.model("line", "DoTask")
        await within(repository.unload_model("test/line", "3"))
        assert serving_version(repository) == "1"
        assert get_states(repository) == {
            ("line", "3"): UNAVAILABLE,
            ("line", "2"): UNAVAILABLE,
            ("line", "1"): READY,
        }
        x = np.ones((1, 16), np.float32)
        await within(before.infer({"x": x}, deadline=Deadline.after(5)))
        del before
        await within(repository.load_model("line"))
        assert serving_version(repository) == "3"


async def test_unloading_all_is_unavailable_and_a_load_brings_it_back(tmp_path: Path) -> None:
    write_versions(tmp_path, "1", "2")
    write_model(tmp_path, "pair", one=two_of_each())
    async with loaded(tmp_path) as repository:
        assert repository.complete
        write_versions(tmp_path, "10")
        break_version(tmp_path, "10")
        with pytest.raises(FailedPrecondition):
            await within(repository.load_model("line"))
        assert get_states(repository)["line", "10"] == UNAVAILABLE
        await within(repository.unload_model("line"))
        await within(repository.wait_settled())
        assert get_states(repository) == {("line", "2"): UNAVAILABLE, ("pair", "1"): READY}
        for look in (lambda: repository.model("line", "DoTask"), lambda: repository.graph("line")):
            with pytest.raises(Unavailable, match="unloaded by a call; loading it brings it back"):
                look()
        # What nobody wants is not missed, and does not come back by itself.
        assert repository.complete
        write_versions(tmp_path, "11")
        await within(repository.load_model("line", "1"))
        assert repository.list_ready("line") == ["1"]
        await within(repository.load_model("line"))
        assert serving_version(repository) == "11"


async def test_unloading_before_it_is_loaded_and_while_it_is(tmp_path: Path) -> None:
    write_versions(tmp_path, "1")
    repository = Repository(tmp_path, "test", InferenceSettings(signature=UNSIGNED, intra_op_threads=1), {})
    repository.start()
    await within(repository.unload_model("line"))
    assert get_states(repository) == {("line", "1"): UNAVAILABLE}
    assert not repository.loading
    loading = asyncio.ensure_future(repository.load_model("line"))
    while not repository.loading:
        await asyncio.sleep(0)
    await within(repository.unload_model("line"))
    with pytest.raises(FailedPrecondition, match="unloaded by a call"):
        await within(loading)
    assert get_states(repository) == {("line", "1"): UNAVAILABLE}
    await within(repository.close())


async def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    write_versions(tmp_path / "models", "1")
    write_model(tmp_path / "models" / "line", "1", linear())  # a model of the name of a version
    async with loaded(tmp_path / "models", {"far": {"version": "3"}}) as repository:
        for name in ("lime", "../models/line", "line/1", "", "test/", ".."):
            with pytest.raises(NotFound, match="no model is named"):
                await within(repository.load_model(name))
            with pytest.raises(NotFound, match="no model is named"):
                await within(repository.unload_model(name))
        for version in ("2", "../1", "."):
            with pytest.raises(NotFound, match="no version of model line"):
                await within(repository.load_model("line", version))
            with pytest.raises(NotFound, match="no version of model line"):
                await within(repository.unload_model("line", version))
        with pytest.raises(NotFound, match="no version of model far on disk"):
            await within(repository.load_model("far"))
        await within(repository.unload_model("far"))


async def test_a_model_that_came_is_found_by_the_call_that_loads_it(tmp_path: Path) -> None:
    write_versions(tmp_path, "1")
    async with loaded(tmp_path) as repository:
        write_model(tmp_path, "new", linear())
        write_model(tmp_path, "newer", linear())
        await within(repository.load_model("new"))
        assert get_states(repository) == {("line", "1"): READY, ("new", "1"): READY}
        shutil.rmtree(tmp_path / "new")
        with pytest.raises(NotFound, match="no version of model new on disk"):
            await within(repository.load_model("new"))
