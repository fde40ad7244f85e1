"""The models' folder is looked at: versions that come are loaded, those that go are unloaded."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.errors import NotFound, Unavailable
from shared.inference.repository.repository import Repository
from shared.inference.repository.versions import Found
from shared.inference.repository.watching import watch
from shared.inference.settings import InferenceSettings
from tests.shared.inference.graphs import linear, write_model
from tests.shared.inference.repository.opened import READY, UNAVAILABLE, get_reason, get_states, until
from tests.support.signing import UNSIGNED
from tests.support.waiting import within


@asynccontextmanager
async def watched(models_dir: Path, catalog: dict[str, Any] | None = None) -> AsyncIterator[Repository]:
    settings = InferenceSettings(signature=UNSIGNED, intra_op_threads=1, watch_s=0.01)
    repository = Repository(models_dir, "test", settings, catalog or {})
    repository.start()
    await within(repository.wait_loaded())
    try:
        yield repository
    finally:
        repository.on_change = None
        await within(repository.close())


async def test_versions_and_models_come_and_go(tmp_path: Path) -> None:
    write_model(tmp_path, "line", linear(), version="1")
    async with watched(tmp_path) as repository:
        write_model(tmp_path, "line", linear(), version="2")
        await until(repository, lambda: get_states(repository) == {("line", "2"): READY})
        write_model(tmp_path, "other", linear(), version="1")
        await until(repository, lambda: get_states(repository).get(("other", "1")) == READY)
        shutil.rmtree(tmp_path / "line" / "2")
        await until(repository, lambda: get_states(repository).get(("line", "1")) == READY)
        shutil.rmtree(tmp_path / "other")
        await until(repository, lambda: get_states(repository) == {("line", "1"): READY})
        with pytest.raises(NotFound):
            repository.model("other", "")


async def test_a_version_whose_folder_goes_serves_until_the_next_has_taken_over(tmp_path: Path) -> None:
    for version in ("1", "2"):
        write_model(tmp_path, "line", linear(), version=version)
    async with watched(tmp_path) as repository:
        told: list[list[str]] = []
        repository.on_change = lambda: told.append(repository.list_ready("line"))
        shutil.rmtree(tmp_path / "line" / "2")
        await until(repository, lambda: get_states(repository) == {("line", "1"): READY})
        assert all(told), "at every moment one version was ready"


async def test_a_catalogued_model_that_goes_says_how_to_pull_it(tmp_path: Path) -> None:
    write_model(tmp_path, "line", linear(), version="1")
    async with watched(tmp_path, {"line": {"version": "1"}}) as repository:
        shutil.rmtree(tmp_path / "line")
        await until(repository, lambda: "not pulled" in get_reason(repository, "line"))
        with pytest.raises(Unavailable, match="sensorium models pull line"):
            repository.model("line", "")
        write_model(tmp_path, "line", linear(), version="1")
        await until(repository, lambda: get_states(repository) == {("line", "1"): READY})


async def test_what_is_refused_leaves_the_old_one_and_is_tried_again_once_it_is_mended(
    tmp_path: Path,
) -> None:
    models = tmp_path / "models"
    write_model(models, "line", linear(), version="1")
    async with watched(models) as repository:
        new = write_model(tmp_path / "elsewhere", "line", linear(), version="2").folder
        content = (new / "model.onnx").read_bytes()
        (new / "model.onnx").write_bytes(content[:-1])
        new.rename(models / "line" / "2")
        await until(repository, lambda: get_states(repository).get(("line", "2")) == UNAVAILABLE)
        assert repository.model("line", "").artifact.version == "1"
        (models / "line" / "2" / "model.onnx").write_bytes(content)
        await until(repository, lambda: get_states(repository) == {("line", "2"): READY})


async def test_what_was_unloaded_by_a_call_stays_so(tmp_path: Path) -> None:
    write_model(tmp_path, "line", linear(), version="1")
    async with watched(tmp_path) as repository:
        await within(repository.unload_model("line"))
        write_model(tmp_path, "line", linear(), version="2")
        write_model(tmp_path, "other", linear(), version="1")
        await until(repository, lambda: get_states(repository).get(("other", "1")) == READY)
        assert get_states(repository)["line", "1"] == UNAVAILABLE


async def test_a_folder_that_is_lost_takes_no_model_away(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_model(models, "line", linear(), version="1")
    looks: asyncio.Queue[Found] = asyncio.Queue()
    watching = asyncio.create_task(watch(models, 0.001, looks.put_nowait))
    assert list(await within(looks.get())) == ["line"]
    models.rename(tmp_path / "away")
    while not looks.empty():
        looks.get_nowait()
    with pytest.raises(TimeoutError):
        await within(looks.get(), 0.1)
    (tmp_path / "away").rename(models)
    assert list(await within(looks.get())) == ["line"]
    watching.cancel()
