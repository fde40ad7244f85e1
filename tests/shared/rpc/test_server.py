"""The life of a server: address file, metrics port, background tasks, drain, stop."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sensorium.mesh.v1 import replica_service_pb2, replica_service_pb2_grpc

from shared.rpc.listen import AddressError
from shared.rpc.replica import Replica
from shared.rpc.server import Server
from shared.rpc.settings import RpcSettings
from tests.support.serving import get_details, get_status, serving
from tests.support.stub import SERVICE, call, echo, stub
from tests.support.waiting import take, within

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def check(channel: grpc.aio.Channel, name: str = "") -> int:
    request = health_pb2.HealthCheckRequest(service=name)
    return (await within(health_pb2_grpc.HealthStub(channel).Check(request, timeout=10))).status


async def test_the_address_file_says_where(front: str, tmp_path: Path) -> None:
    file = tmp_path / "run" / "address"
    async with serving(stub(Echo=echo), front=front, address_file=file) as up:
        assert file.read_text() == up.address + "\n"
        assert not up.address.endswith(":0")
    assert not file.exists()


async def test_a_drain_lets_calls_finish_and_refuses_new_ones(front: str) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(request: BytesValue, context: Any) -> BytesValue:
        begun.set()
        await go_on.wait()
        return request

    async with serving(stub(Wait=wait, Echo=echo), front=front) as up:
        running = asyncio.create_task(call(up.channel, "Wait", b"kept"))
        await within(begun.wait())
        stopping = asyncio.create_task(up.server.stop())
        while await check(up.channel) != NOT_SERVING:
            pass
        with pytest.raises(grpc.aio.AioRpcError, match="stub is unavailable: it is draining") as caught:
            await within(call(up.channel, "Echo", b"late"))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "RetryInfo" in get_details(get_status(caught.value))
        assert not stopping.done()
        go_on.set()
        assert await within(running) == b"kept"
        await within(stopping)


async def test_calls_that_outlast_the_drain_are_told(front: str) -> None:
    begun = asyncio.Event()

    async def hang(request: BytesValue, context: Any) -> BytesValue:
        begun.set()
        await asyncio.Event().wait()
        return request

    async with serving(stub(Hang=hang), front=front, drain_timeout_s=0.1) as up:
        running = asyncio.create_task(call(up.channel, "Hang"))
        await within(begun.wait())
        await within(up.server.stop())
        with pytest.raises(grpc.aio.AioRpcError, match="it is draining") as caught:
            await within(running)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "RetryInfo" in get_details(get_status(caught.value))


async def test_while_watchers_learn_of_the_drain_calls_are_still_taken(front: str) -> None:
    async with serving(stub(Echo=echo), front=front, drain_notice_s=0.5) as up:
        stub_ = replica_service_pb2_grpc.ReplicaServiceStub(up.channel)
        heard = aiter(stub_.StreamingWatchReplica(replica_service_pb2.StreamingWatchReplicaRequest()))
        await take(heard)
        stopping = asyncio.create_task(up.server.stop())
        assert (await take(heard)).draining
        assert await within(call(up.channel, "Echo", b"on its way")) == b"on its way"
        await within(stopping)


async def test_stopping_twice_is_stopping_once(front: str) -> None:
    async with serving(front=front) as up:
        await within(asyncio.gather(up.server.stop(), up.server.stop()))
        await within(up.server.stop())


async def test_a_failing_background_task_stops_the_server(front: str) -> None:
    async def fail() -> None:
        raise RuntimeError("lost the models")

    server = Server(
        RpcSettings(front=front),
        service="stub",
        replica=Replica("stub"),
        register=[stub(Echo=echo)],
        background=[fail],
    )
    await within(server.start())
    with pytest.raises(RuntimeError, match="lost the models"):
        await within(server.serve_until_stopped())


async def test_metrics_count_calls_by_method_and_code(front: str) -> None:
    async def fail(request: BytesValue, context: Any) -> BytesValue:
        raise ValueError

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    async with serving(stub(Echo=echo, Fail=fail), front=front, metrics_address=address) as up:
        for _ in range(3):
            await within(call(up.channel, "Echo"))
        with pytest.raises(grpc.aio.AioRpcError):
            await within(call(up.channel, "Fail"))
        async with httpx.AsyncClient(trust_env=False) as client:
            text = (await within(client.get(f"http://{address}/metrics"))).text
    labels = f'method="Echo",service="{SERVICE}"'
    assert f'sensorium_rpc_calls_total{{code="OK",{labels}}} 3.0' in text
    assert f'sensorium_rpc_calls_total{{code="INTERNAL",method="Fail",service="{SERVICE}"}} 1.0' in text
    assert f"sensorium_rpc_call_seconds_count{{{labels}}} 3.0" in text
    assert f"sensorium_rpc_inflight_calls{{{labels}}} 0.0" in text
    assert "process_resident_memory_bytes" in text


async def test_a_taken_metrics_port_is_one_readable_error(front: str) -> None:
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        address = f"127.0.0.1:{owner.getsockname()[1]}"
        with pytest.raises(AddressError, match=f"address {address} is in use"):
            async with serving(front=front, metrics_address=address):
                pass
