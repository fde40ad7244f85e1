"""Health of the process, its services and its models; checked and watched."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sensorium.mesh.v1.replica_service_pb2 import ModelStatus

from shared.rpc.replica import Replica
from tests.support.serving import serving
from tests.support.stub import SERVICE, echo, stub
from tests.support.waiting import take, within

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
READY = ModelStatus.STATE_READY
LOADING = ModelStatus.STATE_LOADING


def status(name: str, state: Any, version: str = "1") -> ModelStatus:
    return ModelStatus(name=name, version=version, state=state)


async def check(channel: grpc.aio.Channel, name: str = "") -> int:
    request = health_pb2.HealthCheckRequest(service=name)
    return (await within(health_pb2_grpc.HealthStub(channel).Check(request, timeout=10))).status


async def test_health_of_the_process_its_services_and_models(front: str) -> None:
    replica = Replica("vision")
    replica.set_models([status("cat", LOADING), status("dog", LOADING)])
    async with serving(stub(Echo=echo), front=front, replica=replica) as up:
        assert await check(up.channel) == NOT_SERVING
        assert await check(up.channel, "cat") == NOT_SERVING
        # What a liveness probe asks: this process answers, ready or not.
        assert await check(up.channel, "grpc.health.v1.Health") == SERVING
        replica.set_models([status("cat", READY), status("dog", LOADING)])
        for name in ("", SERVICE, "cat", "vision/cat"):
            assert await check(up.channel, name) == SERVING, name
        for name in ("dog", "vision/dog"):
            assert await check(up.channel, name) == NOT_SERVING, name
        with pytest.raises(grpc.aio.AioRpcError, match=r"those that exist: .*cat, dog") as caught:
            await check(up.channel, "nlp/cat")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        listed = await within(
            health_pb2_grpc.HealthStub(up.channel).List(health_pb2.HealthListRequest(), timeout=10)
        )
        assert {name: entry.status for name, entry in listed.statuses.items()} == {
            "": SERVING,
            SERVICE: SERVING,
            "cat": SERVING,
            "dog": NOT_SERVING,
        }


async def test_one_ready_version_of_a_model_is_enough(front: str) -> None:
    replica = Replica("vision")
    replica.set_models([status("cat", READY, "1"), status("cat", LOADING, "2")])
    async with serving(front=front, replica=replica) as up:
        assert await check(up.channel, "cat") == SERVING


async def test_a_replica_without_models_is_ready(front: str) -> None:
    async with serving(stub(Echo=echo), front=front) as up:
        assert await check(up.channel) == SERVING


async def test_health_watch_tells_changes_only_and_ends_with_the_server(front: str) -> None:
    replica = Replica("vision")
    async with serving(front=front, replica=replica) as up:
        watch = health_pb2_grpc.HealthStub(up.channel).Watch(health_pb2.HealthCheckRequest(service="cat"))
        heard = aiter(watch)
        assert (await take(heard)).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        replica.set_models([status("cat", LOADING)])
        assert (await take(heard)).status == NOT_SERVING
        replica.set_models([status("cat", LOADING)])
        replica.set_models([status("cat", READY)])
        assert (await take(heard)).status == SERVING
        stopping = asyncio.create_task(up.server.stop())
        assert (await take(heard)).status == NOT_SERVING
        with pytest.raises(StopAsyncIteration):
            await take(heard)
        await within(stopping)
    assert replica.watchers == 0
