"""Repositories over folders of small models, for the tests of this room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sensorium.mesh.v1.replica_service_pb2 import ModelStatus

from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from tests.support.signing import UNSIGNED
from tests.support.waiting import within

READY, LOADING, UNAVAILABLE = (
    ModelStatus.STATE_READY,
    ModelStatus.STATE_LOADING,
    ModelStatus.STATE_UNAVAILABLE,
)


@asynccontextmanager
async def loaded(
    models_dir: Path, catalog: Mapping[str, Mapping[str, Any]] | None = None, **settings: Any
) -> AsyncIterator[Repository]:
    """A repository whose models are loaded; closed at the end. settings: fields of InferenceSettings."""
    settings.setdefault("intra_op_threads", 1)
    settings.setdefault("signature", UNSIGNED)
    repository = Repository(models_dir, "test", InferenceSettings(**settings), catalog or {})
    await within(repository.load_all())
    try:
        yield repository
    finally:
        repository.on_change = None
        await within(repository.close())


def get_states(repository: Repository) -> dict[tuple[str, str], int]:
    """States by model and version."""
    return {(status.name, status.version): status.state for status in repository.statuses()}


def get_reason(repository: Repository, name: str, version: str = "") -> str:
    """Why a model, or a version of it, does not serve."""
    return next(
        status.reason
        for status in repository.statuses()
        if status.name == name and version in ("", status.version)
    )


async def until(repository: Repository, condition: Callable[[], bool]) -> None:
    """Wait for a change of a state after which a condition holds."""
    held = asyncio.Event()
    before = repository.on_change

    def look() -> None:
        if before is not None:
            before()
        if condition():
            held.set()

    repository.on_change = look
    look()
    await within(held.wait())
    repository.on_change = before
