"""A mesh whose language service has models that hang or crash; for tests and for `make bench`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import numpy as np
from sensorium import AsyncClient
from sensorium.oip.v2 import inference_pb2 as pb
from sensorium.oip.v2 import inference_pb2_grpc as pb_grpc
from sensorium.results import ModelInfo

from shared.inference.artifact import GraphDraft, write_artifact
from tests.mesh.losing import Losses, keep_calling
from tests.mesh.running import RunningMesh, replica_pids, run, running_mesh
from tests.shared.inference.graphs import draft_of, entry_of, linear
from tests.support.signing import UNSIGNED_ENVIRON

LIMIT_S = 60.0


class Caller:
    """Calls of the mesh, and what it says of itself."""

    def __init__(self, mesh: RunningMesh, channel: grpc.aio.Channel, client: AsyncClient) -> None:
        self._metadata = mesh.metadata
        self._inference = pb_grpc.GRPCInferenceServiceStub(channel)
        self._client = client

    async def call(self, model: str, value: int, timeout_s: float = LIMIT_S) -> None:
        """One number through a model of whole numbers."""
        await self._infer(model, "INT64", np.array([value]), timeout_s)

    async def call_line(self, service: str) -> None:
        """One row through a linear model."""
        await self._infer(f"{service}/line", "FP32", np.ones((1, 16), np.float32), LIMIT_S)

    async def fail(self, model: str, value: int, timeout_s: float = LIMIT_S) -> grpc.StatusCode:
        """A call that fails; how."""
        try:
            await self.call(model, value, timeout_s)
        except grpc.aio.AioRpcError as error:
            return error.code()
        raise AssertionError(f"{model} answered {value}")

    async def see(self, name: str, *, ready: int, reason: str = "", replicas: int | None = None) -> ModelInfo:
        """Wait until so many replicas have a model ready (of so many that know of it), and its reason holds a text."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                models = await self._client.list_models()
                found = next((model for model in models if model.public_name == name), None)
                if (
                    found is not None
                    and found.ready_replicas == ready
                    and reason in found.reason
                    and replicas in (None, found.replicas)
                ):
                    return found
                await asyncio.sleep(0.05)

    async def _infer(self, model: str, datatype: str, value: np.ndarray, timeout_s: float) -> None:
        tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=value.shape)
        request = pb.ModelInferRequest(
            model_name=model, inputs=[tensor], raw_input_contents=[value.tobytes()]
        )
        await self._inference.ModelInfer(request, metadata=self._metadata, timeout=timeout_s)


@contextmanager
def running(
    tmp_path: Path, *flags: str, environ: dict[str, str] | None = None, **nlp: GraphDraft
) -> Iterator[RunningMesh]:
    """A mesh whose language service has these models beside a linear one, and whose speech service has a linear one."""
    state = tmp_path / "state"
    for service, models in (("nlp", {"line": linear(), **nlp}), ("speech", {"line": linear()})):
        for name, draft in models.items():
            write_artifact(state / "models" / service, entry_of(name, service=service), draft_of(draft))
    with running_mesh(
        state, "--replicas", "vision=0", *flags, environ={**UNSIGNED_ENVIRON, **(environ or {})}
    ) as mesh:
        yield mesh


@asynccontextmanager
async def calling(mesh: RunningMesh) -> AsyncIterator[Caller]:
    """A caller; meanwhile another calls the speech service without a pause, and loses nothing."""
    async with (
        grpc.aio.insecure_channel(mesh.address) as channel,
        AsyncClient(mesh.address, token=mesh.token, retries=False) as client,
    ):
        caller = Caller(mesh, channel, client)
        losses, stopped = Losses(), asyncio.Event()
        others = asyncio.create_task(keep_calling(lambda: caller.call_line("speech"), losses, stopped))
        try:
            yield caller
        finally:
            stopped.set()
            await asyncio.wait_for(others, LIMIT_S)
        assert losses.calls
        assert not losses.lost, losses.lost


async def see_other(mesh: RunningMesh, before: set[int]) -> None:
    """Wait until a replica of the language service has ended and another has taken its place."""
    async with asyncio.timeout(LIMIT_S):
        while len(now := set(replica_pids(mesh).get("nlp", []))) < len(before) or now == before:
            await asyncio.sleep(0.05)


def show_status(mesh: RunningMesh) -> list[dict[str, dict[str, str]]]:
    """The replicas as `sensorium status --json` shows them."""
    replicas: list[dict[str, dict[str, str]]] = json.loads(ask(mesh, "status", "--json"))["replicas"]
    return replicas


def ask(mesh: RunningMesh, *words: str) -> str:
    """What the command says."""
    command = [sys.executable, "-m", "cli", *words, "--state-dir", str(mesh.state)]
    done = run(command, mesh)
    assert done.returncode == 0, done.stderr
    return done.stdout
