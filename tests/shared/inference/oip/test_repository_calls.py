"""Loading and unloading by call, and what is declared and not served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from sensorium.oip.v2 import inference_pb2 as pb

from shared.rpc.deadline import Deadline
from tests.shared.inference.graphs import linear, write_model
from tests.shared.inference.oip.served import TIMEOUT_S, Oip, line, served

Value = pb.ModelRepositoryParameter


async def load(oip: Oip, name: str, **parameters: Value) -> None:
    request = pb.RepositoryModelLoadRequest(model_name=name, parameters=parameters)
    await oip.stub.RepositoryModelLoad(request, timeout=TIMEOUT_S)


async def unload(oip: Oip, name: str, **parameters: Value) -> None:
    request = pb.RepositoryModelUnloadRequest(model_name=name, parameters=parameters)
    await oip.stub.RepositoryModelUnload(request, timeout=TIMEOUT_S)


async def is_ready(oip: Oip, name: str, version: str = "") -> bool:
    request = pb.ModelReadyRequest(name=name, version=version)
    return (await oip.stub.ModelReady(request, timeout=TIMEOUT_S)).ready


async def test_a_model_is_unloaded_and_loaded(tmp_path: Path, front: str) -> None:
    async with served(tmp_path, front) as oip:
        await unload(oip, "test/line", unload_dependents=Value(bool_param=True))
        assert not await is_ready(oip, "line")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await oip.infer(**line())
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        # What was unloaded on purpose is not missed.
        assert (await oip.stub.ServerReady(pb.ServerReadyRequest(), timeout=TIMEOUT_S)).ready
        await load(oip, "line")
        await load(oip, "line")
        assert await is_ready(oip, "line")
        assert (await oip.infer(**line())).model_version == "1"


async def test_a_new_version_is_loaded_beside_the_old_one(tmp_path: Path) -> None:
    async with served(tmp_path, ready_versions=2) as oip:
        await oip.infer(**line())
        write_model(tmp_path, "line", linear(), version="2")
        assert not await is_ready(oip, "line", "2")
        await load(oip, "line", version=Value(string_param="2"))
        assert (await oip.infer(**line())).model_version == "2"
        assert (await oip.infer(**line(model_version="1"))).model_version == "1"
        request = pb.ModelMetadataRequest(name="line")
        assert list((await oip.stub.ModelMetadata(request, timeout=TIMEOUT_S)).versions) == ["2", "1"]
        every = pb.ModelStatisticsRequest(name="line")
        stats = (await oip.stub.ModelStatistics(every, timeout=TIMEOUT_S)).model_stats
        assert {(one.version, one.inference_count) for one in stats} == {("2", 1), ("1", 2)}
        await unload(oip, "line", version=Value(string_param="1"))
        assert await is_ready(oip, "line", "2")
        assert not await is_ready(oip, "line", "1")


async def test_a_damaged_version_is_refused_with_its_reason(tmp_path: Path) -> None:
    async with served(tmp_path) as oip:
        broken = write_model(tmp_path, "line", linear(), version="2")
        (broken.folder / "model.onnx").unlink()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await load(oip, "line")
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "model.onnx is missing" in str(refused.value.details())
        assert (await oip.infer(**line())).model_version == "1"


@pytest.mark.parametrize(
    ("call", "name", "parameters", "code", "text"),
    [
        (load, "nobody", {}, grpc.StatusCode.NOT_FOUND, "nobody"),
        (unload, "nobody", {}, grpc.StatusCode.NOT_FOUND, "nobody"),
        (load, "", {}, grpc.StatusCode.INVALID_ARGUMENT, "model_name: expected the name of a model"),
        (unload, "", {}, grpc.StatusCode.INVALID_ARGUMENT, "model_name"),
        (
            load,
            "line",
            {"config": Value(string_param="{}")},
            grpc.StatusCode.INVALID_ARGUMENT,
            'parameters["config"]: expected none: a model is served as its artifact says',
        ),
        (
            load,
            "line",
            {"file:1/model.onnx": Value(bytes_param=b"!")},
            grpc.StatusCode.INVALID_ARGUMENT,
            'parameters["file:1/model.onnx"]',
        ),
        (
            load,
            "line",
            {"version": Value(int64_param=1)},
            grpc.StatusCode.INVALID_ARGUMENT,
            "a text as string_param, got a int64_param",
        ),
        (
            unload,
            "line",
            {"other": Value(bool_param=True)},
            grpc.StatusCode.INVALID_ARGUMENT,
            "unload_dependents",
        ),
    ],
)
async def test_what_cannot_be_done_is_refused_in_words(
    tmp_path: Path, call: Any, name: str, parameters: dict[str, Value], code: grpc.StatusCode, text: str
) -> None:
    async with served(tmp_path) as oip:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(oip, name, **parameters)
        assert refused.value.code() is code
        assert text in str(refused.value.details())
        assert await is_ready(oip, "line")


async def test_shared_memory_and_traces_are_not_offered(tmp_path: Path) -> None:
    async with served(tmp_path) as oip:
        for memory in ("System", "Cuda"):
            for call in ("Status", "Unregister"):
                ask = getattr(oip.stub, f"{memory}SharedMemory{call}")
                make = getattr(pb, f"{memory}SharedMemory{call}Request")
                assert not (await ask(make(), timeout=TIMEOUT_S)).ListFields()
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await ask(make(name="region"), timeout=TIMEOUT_S)
                assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        for request, ask in (
            (pb.SystemSharedMemoryRegisterRequest(name="r"), oip.stub.SystemSharedMemoryRegister),
            (pb.CudaSharedMemoryRegisterRequest(name="r"), oip.stub.CudaSharedMemoryRegister),
            (pb.TraceSettingRequest(), oip.stub.TraceSetting),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(request, timeout=TIMEOUT_S)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
            assert "not offered" in str(refused.value.details())


async def test_cache_hits_are_counted_and_told(tmp_path: Path, front: str) -> None:
    async with served(tmp_path, front, models={"line": {"cache_bytes": 1 << 20}}) as oip:
        first = await oip.infer(**line(id="1"))
        again = await oip.infer(**line(id="2"))
        assert first.raw_output_contents == again.raw_output_contents
        assert again.id == "2"
        # Typed calls go the same way.
        typed = oip.repository.model("line", "").infer(
            {"x": np.ones((1, 16), np.float32)}, deadline=Deadline.after(TIMEOUT_S)
        )
        assert (await typed).outputs["y"].tobytes() == first.raw_output_contents[0]
        request = pb.ModelStatisticsRequest(name="line")
        (stats,) = (await oip.stub.ModelStatistics(request, timeout=TIMEOUT_S)).model_stats
        assert (stats.inference_stats.cache_hit.count, stats.inference_stats.cache_miss.count) == (2, 1)
        assert (stats.execution_count, stats.inference_stats.success.count) == (1, 3)
        config = await oip.stub.ModelConfig(pb.ModelConfigRequest(name="line"), timeout=TIMEOUT_S)
        assert config.config.response_cache.enable
        config = await oip.stub.ModelConfig(pb.ModelConfigRequest(name="pair.sums"), timeout=TIMEOUT_S)
        assert not config.config.response_cache.enable
