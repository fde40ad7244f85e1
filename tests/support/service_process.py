"""A service as a process of its own, and what it says of itself once its models are loaded."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from sensorium.mesh.v1 import replica_service_pb2, replica_service_pb2_grpc

from tests.support.waiting import within

ROOT = Path(__file__).parents[2]
STATES = replica_service_pb2.ModelStatus.State


@asynccontextmanager
async def started(module: str, environ: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m module` with `environ` added to a clean environment; killed at the end if it still runs.

    The state folder stays the tests' own: in it are the keys that have signed the pulled models.
    """
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SENSORIUM_") or name == "SENSORIUM_STATE_DIR"
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, cwd=ROOT, env={**clean, **environ}, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await within(process.communicate())


async def loaded(channel: grpc.aio.Channel) -> replica_service_pb2.StreamingWatchReplicaResponse:
    """What the replica says of itself once no model is being loaded."""
    watch = replica_service_pb2_grpc.ReplicaServiceStub(channel).StreamingWatchReplica(
        replica_service_pb2.StreamingWatchReplicaRequest(), wait_for_ready=True
    )
    async for snapshot in watch:
        if all(model.state != STATES.STATE_LOADING for model in snapshot.models):
            watch.cancel()
            return snapshot
    raise AssertionError("the watch ended")
