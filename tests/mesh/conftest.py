"""One mesh for all tests of this folder that leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.mesh.running import RunningMesh, make_state, running_mesh
from tests.observability.target import Target, make_environ, make_targets


@pytest.fixture(scope="session")
def targets() -> list[Target]:
    """Where the processes of `mesh` tell their metrics."""
    return make_targets()


@pytest.fixture(scope="session")
def mesh(
    tmp_path_factory: pytest.TempPathFactory, models_dir: Path, targets: list[Target]
) -> Iterator[RunningMesh]:
    """Gateway and one replica of each service, with all pulled models."""
    state = make_state(tmp_path_factory.mktemp("mesh") / "state", models_dir)
    with running_mesh(state, environ=make_environ(targets)) as running:
        yield running


@pytest.fixture(scope="session")
def channel(mesh: RunningMesh) -> Iterator[grpc.Channel]:
    """A plain gRPC channel to the gateway."""
    with grpc.insecure_channel(mesh.address) as channel:
        yield channel
