"""Versions as clients of the protocol see them, on both fronts: swaps under load, streams that live on, versions by name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from sensorium.oip.v2 import inference_pb2 as pb
from sensorium.oip.v2 import inference_pb2_grpc as pb_grpc

from shared.inference.oip.message import add_to_server
from shared.inference.oip.servicer import InferenceServicer
from shared.inference.repository.repository import Repository
from tests.shared.inference.graphs import linear, write_model
from tests.shared.inference.repository.opened import loaded
from tests.support.serving import serving
from tests.support.waiting import take, within


@asynccontextmanager
async def served(
    models_dir: Path, front: str
) -> AsyncIterator[tuple[Repository, pb_grpc.GRPCInferenceServiceStub]]:
    async with loaded(models_dir) as repository:
        servicer = InferenceServicer(repository)
        async with serving(lambda server: add_to_server(servicer, server), front=front) as running:
            yield repository, pb_grpc.GRPCInferenceServiceStub(running.channel)


def make_request(version: str = "") -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="line", model_version=version)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 16])
    request.raw_input_contents.append(np.ones((1, 16), np.float32).tobytes())
    return request


async def test_versions_follow_one_another_and_no_call_is_lost(tmp_path: Path, front: str) -> None:
    write_model(tmp_path, "line", linear(), version="1")
    async with served(tmp_path, front) as (repository, stub):
        newest = 0
        done = asyncio.Event()

        async def keep_calling() -> None:
            nonlocal newest
            while not done.is_set():
                # What a call that is over was answered by, a call that begins now is, or by a newer one.
                seen = newest
                reply = await stub.ModelInfer(make_request(), timeout=10)
                assert int(reply.model_version) >= seen, "versions never go back"
                newest = max(newest, int(reply.model_version))

        async with asyncio.TaskGroup() as callers:
            for _ in range(8):
                callers.create_task(keep_calling())
            for number in range(2, 6):
                write_model(tmp_path, "line", linear(), version=str(number))
                await within(
                    stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="line"), timeout=10)
                )
            done.set()
        await within(repository.wait_settled())
        assert repository.list_ready("line") == ["5"]


async def test_a_stream_takes_the_new_version_and_holds_the_old_one_no_longer(
    tmp_path: Path, front: str
) -> None:
    write_model(tmp_path, "line", linear(), version="1")
    async with served(tmp_path, front) as (repository, stub):
        stream = stub.ModelStreamInfer(timeout=30)
        versions = []
        replies = aiter(stream)
        for number in ("2", "3", ""):
            await within(stream.write(make_request()))
            versions.append((await take(replies)).infer_response.model_version)
            if number:
                write_model(tmp_path, "line", linear(), version=number)
                await within(repository.load_model("line"))
                # The stream is open, and waits.
                await within(repository.wait_settled(), 4)
        assert versions == ["1", "2", "3"]
        await within(stream.done_writing())


async def test_a_request_may_name_any_version_that_is_ready(tmp_path: Path, front: str) -> None:
    for version in ("1", "2"):
        write_model(tmp_path, "line", linear(), version=version)
    async with served(tmp_path, front) as (_, stub):
        load = pb.RepositoryModelLoadRequest(model_name="test/line")
        load.parameters["version"].string_param = "1"
        await within(stub.RepositoryModelLoad(load, timeout=10))
        for version, expected in (("", "2"), ("1", "1"), ("2", "2")):
            assert (
                await within(stub.ModelInfer(make_request(version), timeout=10))
            ).model_version == expected
            ready = await within(
                stub.ModelReady(pb.ModelReadyRequest(name="line", version=version), timeout=10)
            )
            assert ready.ready
        index = await within(stub.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=10))
        assert [(model.version, model.state) for model in index.models] == [("2", "READY"), ("1", "READY")]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await within(stub.ModelInfer(make_request("3"), timeout=10))
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND
        unload = pb.RepositoryModelUnloadRequest(model_name="line")
        await within(stub.RepositoryModelUnload(unload, timeout=10))
        with pytest.raises(grpc.aio.AioRpcError) as gone:
            await within(stub.ModelInfer(make_request(), timeout=10))
        assert gone.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "unloaded by a call" in (gone.value.details() or "")
        # Nobody misses what nobody wants.
        assert (await within(stub.ServerReady(pb.ServerReadyRequest(), timeout=10))).ready
