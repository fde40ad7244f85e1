"""Losing replicas: what is tried again and what is not, and whose clock counts."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from sensorium.mesh.v1 import mesh_service_pb2

from shared.errors import ResourceExhausted, Unavailable
from tests.gateway.support.running import ROOT, Gateway, eventually, say
from tests.gateway.support.toy import SERVICE, SayRequest, SayResponse, toy
from tests.gateway.support.toy import say as answer
from tests.support.waiting import within


def metadata_of(context: Any) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}


async def test_a_retry_finds_the_same_deadline(gateway: Gateway) -> None:
    seen: list[int] = []

    async def fail_first(request: Any, context: Any) -> Any:
        seen.append(int(metadata_of(context)["x-sensorium-deadline"]))
        if len(seen) == 1:
            await asyncio.sleep(0.3)
            raise Unavailable("the toy", reason="first time", retry_after_s=1)
        return await answer(request, context)

    async with gateway.replica(register=[toy(fail_first)]), gateway.replica(register=[toy(fail_first)]):
        before_ms = time.time() * 1000
        await say(gateway, timeout=2)
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert before_ms + 1900 <= seen[0] <= before_ms + 2900


@pytest.mark.parametrize("front", ["native", "grpcio"])
async def test_a_refusal_for_load_is_not_retried_and_tells_clients_when_to(
    gateway: Gateway, front: str
) -> None:
    calls: list[str] = []

    async def refuse(request: Any, context: Any) -> Any:
        calls.append("Say")
        raise ResourceExhausted("the toy", limit="1", retry_after_s=0.25)

    async with (
        gateway.replica(register=[toy(refuse)], front=front),
        gateway.replica(register=[toy(refuse)], front=front),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await say(gateway)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"] == "250"
    assert len(calls) == 1


@pytest.mark.parametrize(("timeout", "expected_s"), [(None, 20), (5.0, 5), (3600.0, 30)])
async def test_the_deadline_is_the_caller_s_within_bounds(
    gateway: Gateway, timeout: float | None, expected_s: float
) -> None:
    async with gateway.replica():
        now_s = time.time()
        said = dict(pair.split("=", 1) for pair in (await say(gateway, timeout=timeout)).metadata)
    assert abs(int(said["x-sensorium-deadline"]) / 1000 - now_s - expected_s) < 1.5


async def test_a_deadline_that_passes_is_said_to_have(gateway: Gateway) -> None:
    async def sleep(request: Any, context: Any) -> Any:
        await asyncio.sleep(5)

    async with gateway.replica(register=[toy(sleep)], front="grpcio"):
        answer = await gateway.http(
            "POST", "/v1/toys:say", headers={**gateway.headers(), "grpc-timeout": "200m"}, json={}
        )
    assert answer.status_code == 504
    assert answer.json()["code"] == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]


async def test_only_what_may_be_repeated_is_repeated(gateway: Gateway) -> None:
    calls: list[str] = []

    def refuse(name: str) -> Any:
        async def serve(request: Any, context: Any) -> Any:
            calls.append(name)
            raise Unavailable("the toy", reason="always", retry_after_s=1)

        return serve

    registered = [toy(refuse("Say"), refuse("Write"))]
    async with gateway.replica(register=registered), gateway.replica(register=registered):
        for method in ("Say", "Write"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await say(gateway, method, model="echo")
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert calls.count("Write") == 1
    assert calls.count("Say") > 1


async def test_tiny_deadlines_and_failing_calls_eject_nobody(gateway: Gateway) -> None:
    async def fail(request: Any, context: Any) -> Any:
        if request.text == "slow":
            await asyncio.sleep(5)
        raise ValueError(request.text)

    async with gateway.replica(register=[toy(fail)]), gateway.replica(register=[toy(fail)]):
        for text, timeout in [("slow", 0.05), ("bug", 5.0)] * 15:
            with pytest.raises(grpc.aio.AioRpcError):
                await say(gateway, text=text, timeout=timeout)
        assert gateway.stat("cluster.toy.outlier_detection.ejections_active") == 0
        assert gateway.stat("cluster.toy.outlier_detection.ejections_enforced_total") == 0


class Flock:
    """Replica processes of one service, each brought back elsewhere after it is killed."""

    def __init__(self, gateway: Gateway, size: int) -> None:
        self._gateway = gateway
        self.replicas = [self._spawn(n) for n in range(size)]

    def _spawn(self, place: int) -> subprocess.Popen[bytes]:
        address_file = self._gateway.state / "run" / "endpoints" / "toy" / str(place)
        address_file.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.gateway.support.replica", "toy", str(address_file)]
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)

    def kill(self, place: int) -> None:
        self.replicas[place].send_signal(signal.SIGKILL)
        self.replicas[place].wait(10)

    def bring_back(self, place: int) -> None:
        self.replicas[place] = self._spawn(place)

    def end(self) -> None:
        for replica in self.replicas:
            replica.kill()
            replica.wait(10)
        for path in (self._gateway.state / "run" / "endpoints" / "toy").iterdir():
            path.unlink()


@pytest.fixture
async def flock(gateway: Gateway) -> AsyncIterator[Flock]:
    made = Flock(gateway, 2)
    yield made
    made.end()

    async def all_gone() -> bool:
        return not await gateway.replicas("toy")

    await eventually(all_gone, "the replicas are forgotten")


async def test_no_call_is_lost_while_replicas_are_killed(gateway: Gateway, flock: Flock) -> None:
    """16 callers, two replicas, each killed in turn as soon as the other one is back."""

    async def both_ready() -> bool:
        states = [replica.state for replica in (await gateway.replicas("toy")).values()]
        return states.count(mesh_service_pb2.MeshReplica.STATE_READY) == 2

    await eventually(both_ready, "both replicas are ready", 30)
    over = asyncio.Event()
    lost: list[str] = []
    answered = 0

    async def call(channel: grpc.aio.Channel) -> None:
        nonlocal answered
        method = channel.unary_unary(
            f"/{SERVICE}/Say",
            request_serializer=SayRequest.SerializeToString,
            response_deserializer=SayResponse.FromString,
        )
        metadata = gateway.metadata()
        while not over.is_set():
            try:
                await method(SayRequest(text="x" * 1000), metadata=metadata, timeout=10)
                answered += 1
            except grpc.aio.AioRpcError as error:
                lost.append(f"{error.code().name}: {error.details()}")

    async with gateway.channel() as one, gateway.channel() as two:
        callers = [asyncio.create_task(call(channel)) for channel in (one, two) * 8]
        for kill in range(4):
            await asyncio.to_thread(flock.kill, kill % 2)
            await asyncio.sleep(0.3)
            flock.bring_back(kill % 2)
            await eventually(both_ready, "both replicas are ready again", 30)
        over.set()
        await within(asyncio.gather(*callers))
    assert not lost, (len(lost), answered, set(lost))
    assert answered > 200
