"""`python -m services.nlp` as a process: from its environment to an answer, and to a readable refusal."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from sensorium.mesh.v1 import replica_service_pb2 as replica_pb
from sensorium.mesh.v1 import replica_service_pb2_grpc as replica_grpc
from sensorium.nlp.v1 import nlp_service_pb2 as pb
from sensorium.nlp.v1 import nlp_service_pb2_grpc as pb_grpc

from tests.support.waiting import within

ROOT = Path(__file__).parents[3]
STATES = replica_pb.ModelStatus.State
LIMIT_S = 30.0


@asynccontextmanager
async def started(environ: Mapping[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process with `environ` added to a clean environment; killed at the end if it still runs."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SENSORIUM_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.nlp",
        cwd=ROOT,
        env={**clean, **environ},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await within(process.communicate())


async def loaded(channel: grpc.aio.Channel) -> replica_pb.StreamingWatchReplicaResponse:
    """What the replica says of itself once no model is being loaded."""
    watch = replica_grpc.ReplicaServiceStub(channel).StreamingWatchReplica(
        replica_pb.StreamingWatchReplicaRequest(), wait_for_ready=True
    )
    async for snapshot in watch:
        if all(model.state != STATES.STATE_LOADING for model in snapshot.models):
            watch.cancel()
            return snapshot
    raise AssertionError("the watch ended")


async def test_it_serves_and_stops(models_dir: Path, tmp_path: Path):
    socket = f"unix:{tmp_path}/nlp.sock"
    environ = {
        "SENSORIUM_NLP_RPC__ADDRESS": socket,
        "SENSORIUM_NLP_INFERENCE__MODELS_DIR": str(models_dir / "nlp"),
        "SENSORIUM_NLP_BOUNDS__MAX_ITEMS": "2",
    }
    async with started(environ) as process, grpc.aio.insecure_channel(socket) as channel:
        snapshot = await within(loaded(channel), LIMIT_S)
        limits = {limit.method.rpartition("/")[2]: limit for limit in snapshot.limits}
        assert (limits["EmbedText"].max_items, limits["ClassifyText"].max_tokens) == (2, 256)
        stub = pb_grpc.NlpServiceStub(channel)
        reply = await within(stub.EmbedText(pb.EmbedTextRequest(texts=["Hello"])), LIMIT_S)
        assert len(reply.results[0].embedding.values) == 384
        process.send_signal(signal.SIGTERM)
        await within(process.communicate(), LIMIT_S)
        assert process.returncode == 0


async def test_what_was_never_pulled_is_said(tmp_path: Path):
    socket = f"unix:{tmp_path}/nlp.sock"
    environ = {
        "SENSORIUM_NLP_RPC__ADDRESS": socket,
        "SENSORIUM_NLP_INFERENCE__MODELS_DIR": str(tmp_path / "none"),
    }
    async with started(environ), grpc.aio.insecure_channel(socket) as channel:
        snapshot = await within(loaded(channel), LIMIT_S)
        assert [model.state for model in snapshot.models] == [STATES.STATE_UNAVAILABLE]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await within(
                pb_grpc.NlpServiceStub(channel).EmbedText(pb.EmbedTextRequest(texts=["Hello"])), LIMIT_S
            )
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "sensorium models pull minilm" in caught.value.details()


async def test_bad_settings_are_one_readable_refusal():
    async with started({"SENSORIUM_NLP_BOUNDS__MAX_ITEMS": "many", "SENSORIUM_NLP_COLOUR": "red"}) as process:
        _, errors = await within(process.communicate(), LIMIT_S)
        assert process.returncode == 1
        text = errors.decode()
        assert "SENSORIUM_NLP_BOUNDS__MAX_ITEMS" in text
        assert "SENSORIUM_NLP_COLOUR" in text
        assert "Traceback" not in text
