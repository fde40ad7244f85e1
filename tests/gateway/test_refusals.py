"""Replicas that refuse, or lack what is asked for: who is asked instead, how soon, and who is held responsible."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from sensorium.oip.v2 import inference_pb2 as pb
from sensorium.oip.v2 import inference_pb2_grpc as pb_grpc

from shared.errors import NotFound, ResourceExhausted, Unavailable
from tests.gateway.support.running import Gateway, eventually, say
from tests.gateway.support.toy import Inference, model, toy
from tests.gateway.support.toy import say as answer
from tests.support.serving import get_details, get_status
from tests.support.waiting import within


@pytest.mark.parametrize("front", ["native", "grpcio"])
async def test_a_refusal_by_load_is_the_answer(gateway: Gateway, front: str) -> None:
    """No other replica is bothered with it, and the one that refused is asked again at once."""
    calls: Counter[str] = Counter()

    def refuse(name: str) -> Any:
        async def serve(request: Any, context: Any) -> Any:
            calls[name] += 1
            raise ResourceExhausted("the queue", limit="8 items", retry_after_s=0.25)

        return serve

    async with (
        gateway.replica(register=[toy(refuse("one"))], front=front),
        gateway.replica(register=[toy(refuse("two"))], front=front),
    ):
        for _ in range(40):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await say(gateway)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        trailers = dict(caught.value.trailing_metadata() or ())
        assert trailers["grpc-retry-pushback-ms"] == "250"
        assert not any(name.startswith("x-sensorium-retry") for name in trailers)
        details = get_details(get_status(caught.value))
        assert details["RetryInfo"].retry_delay.ToMilliseconds() == 250
        assert details["QuotaFailure"].violations
        assert gateway.stat("cluster.toy.outlier_detection.ejections_enforced_total") == 0
        assert gateway.stat("cluster.toy.membership_healthy") == 2
    assert calls.total() == 40
    assert min(calls["one"], calls["two"]) > 5


async def test_a_model_that_one_replica_lost_is_asked_for_elsewhere(gateway: Gateway) -> None:
    """First because the call is tried again, and within a second because nobody is sent there any more."""
    lost, calls = asyncio.Event(), Counter[str]()

    def serve(name: str) -> Any:
        async def serve_(request: Any, context: Any) -> Any:
            calls[name] += 1
            if name == "first" and lost.is_set():
                raise Unavailable("model toy/echo", reason="it is quarantined", retry_after_s=30)
            return await answer(request, context)

        return serve_

    models = [model("echo", default_for=("Say",)), model("other")]
    async with (
        gateway.replica(models=models, register=[toy(serve("first"))]) as first,
        gateway.replica(models=models, register=[toy(serve("second"))]),
    ):
        while calls["first"] == 0:
            await say(gateway, model="echo")
        # It fails before anybody was told.
        lost.set()
        for name in ("echo", "toy/echo", ""):
            for _ in range(10):
                await say(gateway, model=name)
        begun_s = time.monotonic()
        first.replica.set_models(
            [model("echo", ready=False, reason="it is quarantined", default_for=("Say",)), model("other")]
        )

        async def left_alone() -> bool:
            before = calls["first"]
            for _ in range(10):
                await say(gateway, model="echo")
                await say(gateway)
            return calls["first"] == before

        await eventually(left_alone, "nobody is sent to the one that lost it")
        assert time.monotonic() - begun_s < 1
        # What it still has it still answers.
        calls.clear()
        for _ in range(20):
            await say(gateway, model="other")
        assert calls["first"] > 2
        lost.clear()
        first.replica.set_models(models)

        async def is_back() -> bool:
            await say(gateway, model="echo")
            return calls["first"] > 20

        await eventually(is_back, "it is asked again")


async def test_a_slow_replica_gets_next_to_nothing(gateway: Gateway) -> None:
    go_on, slow, failed = asyncio.Event(), asyncio.Event(), list[grpc.StatusCode]()

    async def hold(request: Any, context: Any) -> Any:
        slow.set()
        await go_on.wait()
        return await answer(request, context)

    async with gateway.replica(), gateway.replica(), gateway.replica(register=[toy(hold)]):
        held = []
        while not slow.is_set():
            held.append(asyncio.create_task(say(gateway)))
            await asyncio.wait(held, timeout=0.1)
        # With a call in flight it is only taken when nobody else is drawn: one call in 81.
        for _ in range(60):
            try:
                await say(gateway, timeout=1)
            except grpc.aio.AioRpcError as error:
                failed.append(error.code())
        go_on.set()
        await within(asyncio.gather(*held))
    assert len(failed) <= 5, failed


class Versions(Inference):
    """Has `echo` at some versions, and says which one answered."""

    def __init__(self, *versions: str) -> None:
        super().__init__("toy")
        self._versions = versions
        self.asked: Counter[str] = Counter()

    @property
    def models(self) -> list[Any]:
        """What its replica says."""
        found = []
        for version in self._versions:
            found.append(model("echo", default_for=("Say",)))
            found[-1].version = version
        return found

    @property
    def register(self) -> list[Callable[[Any], None]]:
        """What `Gateway.replica` takes."""
        return [toy(), lambda server: pb_grpc.add_GRPCInferenceServiceServicer_to_server(self, server)]

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        self.asked[request.model_version] += 1
        version = request.model_version or self._versions[-1]
        if version not in self._versions:
            raise NotFound("version of model echo", version, known=self._versions)
        return pb.ModelInferResponse(model_name="echo", model_version=version)


async def test_a_version_is_asked_for_where_it_is(gateway: Gateway) -> None:
    """As in the midst of a hot swap, that one replica made and another one did not yet."""
    old, new = Versions("1"), Versions("1", "2")
    async with (
        gateway.replica(models=old.models, register=old.register),
        gateway.replica(models=new.models, register=new.register),
        gateway.channel() as opened,
    ):
        stub = pb_grpc.GRPCInferenceServiceStub(opened)

        async def infer(version: str, name: str = "toy/echo") -> str:
            request = pb.ModelInferRequest(model_name=name, model_version=version)
            return str(
                (await stub.ModelInfer(request, metadata=gateway.metadata(), timeout=10)).model_version
            )

        for name in ("echo", "toy/echo"):
            assert {await infer("2", name) for _ in range(10)} == {"2"}
        assert old.asked["2"] == 0
        assert {await infer("1") for _ in range(20)} == {"1"}
        assert min(old.asked["1"], new.asked["1"]) > 0
        # Who names none gets that of whoever he comes to.
        assert {await infer("") for _ in range(20)} == {"1", "2"}
        with pytest.raises(grpc.aio.AioRpcError, match="no version of model echo") as caught:
            await infer("3")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        call = stub.ModelStreamInfer(metadata=gateway.metadata(), timeout=10)
        await call.write(pb.ModelInferRequest(model_name="echo", model_version="2"))
        assert (await call.read()).infer_response.model_version == "2"
        call.cancel()
