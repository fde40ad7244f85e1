"""A new version of a model appears on disk while the mesh answers calls for it: replicas, catalogue and routes follow."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from sensorium.mesh.v1 import mesh_service_pb2, mesh_service_pb2_grpc, replica_service_pb2
from sensorium.oip.v2 import inference_pb2 as pb
from sensorium.oip.v2 import inference_pb2_grpc as pb_grpc

from shared.inference.artifact import write_artifact
from tests.mesh.running import RunningMesh, running_mesh
from tests.shared.inference.graphs import draft_of, entry_of, linear
from tests.support.artifact_copy import copy_version, flip_bit
from tests.support.signing import UNSIGNED_ENVIRON
from tests.support.waiting import within

MODEL = "nlp/line"
STATES = replica_service_pb2.ModelStatus
CALLERS = 4
FOLLOWED_S = 30
OPTIONS = {"timeout": 20}


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[RunningMesh]:
    """Two replicas of one service with one small model, whose folder they look at all the time."""
    write_artifact(tmp_path / "models/nlp", entry_of("line", service="nlp"), draft_of(linear()))
    environ = {"SENSORIUM_NLP_INFERENCE__WATCH_S": "0.2", **UNSIGNED_ENVIRON}
    with running_mesh(tmp_path, "--replicas", "vision=0,nlp=2,speech=0", environ=environ) as running:
        yield running


@dataclass
class Callers:
    """Calls that never pause: the versions that answered, and what went wrong."""

    stub: Any
    metadata: list[tuple[str, str]]
    versions: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    async def infer(self, version: str = "") -> str:
        """The version that answers one call."""
        request = pb.ModelInferRequest(model_name=MODEL, model_version=version)
        request.inputs.add(name="x", datatype="FP32", shape=[1, 16])
        request.raw_input_contents.append(np.ones((1, 16), np.float32).tobytes())
        reply = await self.stub.ModelInfer(request, metadata=self.metadata, **OPTIONS)
        return str(reply.model_version)

    async def keep_calling(self) -> None:
        """One caller, until cancelled."""
        while True:
            try:
                self.versions.append(await self.infer())
            except grpc.aio.AioRpcError as error:
                self.lost.append(f"{error.code().name}: {error.details()}")


@contextlib.asynccontextmanager
async def calling(mesh: RunningMesh) -> AsyncIterator[tuple[Callers, Any, Any]]:
    """Callers at work, and the two services that tell of models."""
    async with grpc.aio.insecure_channel(mesh.address) as channel:
        inference = pb_grpc.GRPCInferenceServiceStub(channel)
        callers = Callers(inference, mesh.metadata)
        tasks = [asyncio.create_task(callers.keep_calling()) for _ in range(CALLERS)]
        try:
            yield callers, inference, mesh_service_pb2_grpc.MeshServiceStub(channel)
        finally:
            for task in tasks:
                task.cancel()
            await within(asyncio.gather(*tasks, return_exceptions=True))


async def until_known(mesh: RunningMesh, meshes: Any, version: str, state: int, ready_replicas: int) -> Any:
    """The catalogue's entry of a version that both replicas know, once it is as it should be."""
    async with asyncio.timeout(FOLLOWED_S):
        while True:
            request = mesh_service_pb2.ListModelsRequest(service="nlp")
            models = (await meshes.ListModels(request, metadata=mesh.metadata, **OPTIONS)).models
            for found in models:
                known = found.model.version, found.model.state, found.ready_replicas, found.replicas
                if known == (version, state, ready_replicas, 2):
                    return found
            await asyncio.sleep(0.02)


async def test_a_new_version_takes_over(mesh: RunningMesh) -> None:
    source = mesh.state / "models/nlp/line/1"
    async with calling(mesh) as (callers, inference, meshes):
        await within(until_known(mesh, meshes, "1", STATES.STATE_READY, 2), FOLLOWED_S)
        copy_version(source, mesh.state / "models/nlp", "2")
        await within(until_known(mesh, meshes, "2", STATES.STATE_READY, 2), FOLLOWED_S)
        # From now on every call that names no version gets the new one, and so does one that names it.
        assert {await callers.infer() for _ in range(20)} == {"2"}
        assert {await callers.infer("2") for _ in range(10)} == {"2"}
        index = await inference.RepositoryIndex(
            pb.RepositoryIndexRequest(ready=True), metadata=mesh.metadata, **OPTIONS
        )
        assert ("nlp/line", "2") in {(one.name, one.version) for one in index.models}
        assert set(callers.versions) == {"1", "2"}

        # One that must not serve is told of, with its reason, and changes nothing.
        copy_version(source, mesh.state / "models/nlp", "3", flip_bit)
        broken = await within(until_known(mesh, meshes, "3", STATES.STATE_UNAVAILABLE, 0), FOLLOWED_S)
        assert "sha256" in broken.model.reason
        assert {await callers.infer() for _ in range(20)} == {"2"}
    assert not callers.lost, callers.lost[:3]
    assert len(callers.versions) > 100


async def test_load_and_unload_are_found_by_the_next_call(mesh: RunningMesh) -> None:
    async with grpc.aio.insecure_channel(mesh.address) as channel:
        inference = pb_grpc.GRPCInferenceServiceStub(channel)
        callers = Callers(inference, mesh.metadata)
        options = {"metadata": mesh.metadata, **OPTIONS}
        # A replica that comes later would have what is on disk.
        meshes = mesh_service_pb2_grpc.MeshServiceStub(channel)
        await within(until_known(mesh, meshes, "1", STATES.STATE_READY, 2), FOLLOWED_S)
        for _ in range(3):
            await inference.RepositoryModelUnload(
                pb.RepositoryModelUnloadRequest(model_name="line"), **options
            )
            for _ in range(4):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await callers.infer()
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            ready = await inference.ModelReady(pb.ModelReadyRequest(name="line"), **options)
            assert not ready.ready
            await inference.RepositoryModelLoad(
                pb.RepositoryModelLoadRequest(model_name="nlp/line"), **options
            )
            assert [await callers.infer() for _ in range(4)] == ["1"] * 4

        # One that nobody knew before is loaded by its whole name.
        write_artifact(mesh.state / "new", entry_of("fresh", service="nlp"), draft_of(linear()))
        shutil.move(mesh.state / "new/fresh", mesh.state / "models/nlp/fresh")
        await inference.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="nlp/fresh"), **options)
        ready = await inference.ModelReady(pb.ModelReadyRequest(name="fresh"), **options)
        assert ready.ready
        for name in ("none", "nlp/none"):
            with pytest.raises(grpc.aio.AioRpcError, match="none") as caught:
                await inference.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=name), **options)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
