"""A real replica with models that hang or crash: the others keep serving, the guilty is found and kept out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sensorium.mesh.v1 import replica_service_pb2, replica_service_pb2_grpc
from sensorium.oip.v2 import inference_pb2 as pb
from sensorium.oip.v2 import inference_pb2_grpc as pb_grpc

from shared.errors import RESTART_CODE
from shared.inference.artifact import GraphDraft, write_artifact
from tests.shared.inference.graphs import draft_of, entry_of, linear, slow
from tests.shared.inference.isolation.graphs import (
    HOURS,
    LOWEST,
    crashing,
    crashing_at_load,
    deaf,
    needs_trap,
)
from tests.support.service_process import ROOT, STATES, loaded, started
from tests.support.signing import UNSIGNED_ENVIRON
from tests.support.waiting import within

LIMIT_S = 30.0
FOR_EVER = 2**40
Metadata = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Running:
    """A replica, and how it is asked."""

    process: asyncio.subprocess.Process
    channel: grpc.aio.Channel

    async def call(
        self, model: str, value: int, timeout_s: float = LIMIT_S, metadata: Metadata = ()
    ) -> list[int]:
        """One number through a model of whole numbers."""
        reply = await self._infer(model, "INT64", np.array([value]), timeout_s, metadata)
        return list(np.frombuffer(reply.raw_output_contents[0], np.int64))

    async def be_busy(self, model: str) -> None:
        """Wait until a model has no time for another call."""
        code = None
        while code is not grpc.StatusCode.DEADLINE_EXCEEDED:
            try:
                await self.call(model, 1, timeout_s=0.5)
            except grpc.aio.AioRpcError as error:
                code = error.code()

    async def call_line(self, metadata: Metadata = ()) -> None:
        """A call of the model that always answers."""
        await self._infer("line", "FP32", np.ones((1, 16), np.float32), LIMIT_S, metadata)

    async def _infer(
        self, model: str, datatype: str, value: np.ndarray, timeout_s: float, metadata: Metadata
    ) -> pb.ModelInferResponse:
        tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=value.shape)
        request = pb.ModelInferRequest(
            model_name=model, inputs=[tensor], raw_input_contents=[value.tobytes()]
        )
        return await pb_grpc.GRPCInferenceServiceStub(self.channel).ModelInfer(
            request, timeout=timeout_s, metadata=list(metadata)
        )

    async def wait_for(self, model: str, state: int) -> str:
        """Wait until a model is in a state; its reason."""
        watch = replica_service_pb2_grpc.ReplicaServiceStub(self.channel).StreamingWatchReplica(
            replica_service_pb2.StreamingWatchReplicaRequest(), wait_for_ready=True
        )
        async for snapshot in watch:
            for status in snapshot.models:
                if status.name == model and status.state == state:
                    watch.cancel()
                    return str(status.reason)
        raise AssertionError("the watch ended")

    async def is_serving(self, model: str) -> bool:
        """What health says of a model."""
        reply = await health_pb2_grpc.HealthStub(self.channel).Check(
            health_pb2.HealthCheckRequest(service=model), timeout=LIMIT_S
        )
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    async def end(self) -> int:
        """Its exit code, once it has ended."""
        await within(self.process.communicate(), LIMIT_S)
        assert self.process.returncode is not None
        return self.process.returncode


def write(state: Path, name: str, draft: GraphDraft) -> None:
    write_artifact(state / "models" / "nlp", entry_of(name, service="nlp"), draft_of(draft))


@contextlib.asynccontextmanager
async def replica(state: Path, socket: Path | None = None, **isolation: float) -> AsyncIterator[Running]:
    """A replica of the language service on a state folder; all of its models are settled when the block begins."""
    address = f"unix:{socket or state / 'nlp.sock'}"
    environ: Mapping[str, str] = {
        "SENSORIUM_STATE_DIR": str(state),
        "SENSORIUM_NLP_RPC__ADDRESS": address,
        **UNSIGNED_ENVIRON,
        **{
            f"SENSORIUM_NLP_INFERENCE__ISOLATION__{key.upper()}": str(value)
            for key, value in isolation.items()
        },
    }
    async with started("services.nlp", environ) as process, grpc.aio.insecure_channel(address) as channel:
        await within(loaded(channel), LIMIT_S)
        yield Running(process, channel)


async def crash(state: Path, model: str, value: int) -> int:
    """Have a replica run a model on a value that ends it; its exit code."""
    async with replica(state) as running:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.call(model, value)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        return await running.end()


def release(state: Path, model: str) -> str:
    """`sensorium models release`."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", "models", "release", model, "--state-dir", str(state)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_run_that_hangs_costs_its_model_a_moment_and_the_others_nothing(tmp_path: Path) -> None:
    write(tmp_path, "line", linear())
    write(tmp_path, "slow", slow())
    async with replica(tmp_path, run_timeout_s=0.5) as running:
        assert await running.call("slow", 3) == [3]
        hanging = [asyncio.ensure_future(running.call("slow", FOR_EVER)) for _ in range(3)]
        reason = await within(running.wait_for("slow", STATES.STATE_UNAVAILABLE))
        assert "it hangs: a run took more than 0.5 s" in reason
        await running.call_line()
        for call in hanging:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await within(call)
            # The gateway tries it elsewhere.
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await within(running.wait_for("slow", STATES.STATE_READY))
        assert await running.call("slow", 3) == [3]
        assert running.process.returncode is None


async def test_a_run_that_does_not_even_stop_restarts_the_replica_and_twice_is_enough(tmp_path: Path) -> None:
    write(tmp_path, "line", linear())
    write(tmp_path, "deaf", deaf())
    for _ in range(2):
        async with replica(tmp_path, run_timeout_s=0.5, grace_s=1.0) as running:
            hanging = asyncio.ensure_future(running.call("deaf", HOURS))
            await within(running.wait_for("deaf", STATES.STATE_UNAVAILABLE))
            assert not await running.is_serving("nlp/deaf")
            assert await running.is_serving("nlp/line")
            await running.call_line()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await within(hanging)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert await running.end() == RESTART_CODE
    async with replica(tmp_path) as running:
        reason = await within(running.wait_for("deaf", STATES.STATE_UNAVAILABLE))
        assert "quarantined: it was blamed 2 times" in reason
        assert "sensorium models release nlp/deaf" in reason
        await running.call_line()
        assert "nlp/deaf" in release(tmp_path, "deaf")
        await within(running.wait_for("deaf", STATES.STATE_READY))
        assert await running.call("deaf", 3) == [3]


@needs_trap
async def test_a_model_that_crashed_twice_is_quarantined_while_the_others_serve(tmp_path: Path) -> None:
    write(tmp_path, "line", linear())
    write(tmp_path, "crashing", crashing())
    for _ in range(2):
        assert await crash(tmp_path, "crashing", LOWEST) == -signal.SIGFPE
    async with replica(tmp_path) as running:
        await running.call_line()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.call("crashing", 3)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "floating point exception" in caught.value.details()
        assert "sensorium models release nlp/crashing" in caught.value.details()
        # A new version is another artifact.
        write_artifact(
            tmp_path / "models" / "nlp", entry_of("crashing", "2", service="nlp"), draft_of(crashing())
        )
        await within(running.wait_for("crashing", STATES.STATE_READY))


@needs_trap
async def test_a_call_that_crashed_a_replica_is_not_run_by_the_next(tmp_path: Path) -> None:
    write(tmp_path, "line", linear())
    write(tmp_path, "crashing", crashing())
    (tmp_path / "other").mkdir()
    async with replica(tmp_path, socket=tmp_path / "other" / "nlp.sock") as running:
        assert await crash(tmp_path, "crashing", LOWEST) == -signal.SIGFPE
        retried = [("x-envoy-attempt-count", "2")]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.call("crashing", LOWEST, metadata=retried)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "it crashed its replica (floating point exception" in caught.value.details()
        await running.call_line(metadata=retried)
        # Once is no reason to refuse others.
        assert await running.call("crashing", 3) == [3]


@needs_trap
async def test_a_model_that_crashes_while_it_is_loaded_is_out_at_the_third_start(tmp_path: Path) -> None:
    write(tmp_path, "line", linear())
    write(tmp_path, "crashing", crashing_at_load())
    for _ in range(2):
        async with started(
            "services.nlp", {"SENSORIUM_STATE_DIR": str(tmp_path), **UNSIGNED_ENVIRON}
        ) as process:
            await within(process.communicate(), LIMIT_S)
            assert process.returncode == -signal.SIGFPE
    async with replica(tmp_path) as running:
        assert "being loaded" in await within(running.wait_for("crashing", STATES.STATE_UNAVAILABLE))
        await running.call_line()


async def test_who_is_killed_while_it_runs_blames_nobody(tmp_path: Path) -> None:
    write(tmp_path, "slow", slow())
    for _ in range(3):
        async with replica(tmp_path) as running:
            assert await running.call("slow", 3) == [3]
            running_call = asyncio.ensure_future(running.call("slow", FOR_EVER))
            await within(running.be_busy("slow"))
            os.kill(running.process.pid, signal.SIGKILL)
            assert await running.end() == -signal.SIGKILL
            with pytest.raises(grpc.aio.AioRpcError):
                await within(running_call)
    async with replica(tmp_path) as running:
        assert await running.call("slow", 3) == [3]
