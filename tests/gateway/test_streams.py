"""Streams of requests: where they go, who may, how they end, and that nobody keeps what is not taken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from sensorium.oip.v2 import inference_pb2 as pb
from sensorium.oip.v2 import inference_pb2_grpc as pb_grpc

from shared.errors import Unavailable
from tests.gateway.support.running import MESH, Gateway, eventually
from tests.gateway.support.toy import Inference, inference, model, toy
from tests.support.serving import get_details, get_status
from tests.support.waiting import within

# What proxy, kernel and both ends may hold of a stream that nobody reads: windows and socket buffers of 4 hops.
HELD_BYTES = 32 << 20


def serve(stream: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any], None]:
    """What registers an inference service whose ModelStreamInfer is `stream`."""

    class Streaming(Inference):
        ModelStreamInfer = staticmethod(stream)

    return lambda server: pb_grpc.add_GRPCInferenceServiceServicer_to_server(Streaming("toy"), server)


def request(name: str, payload: bytes = b"", **fields: Any) -> pb.ModelInferRequest:
    return pb.ModelInferRequest(model_name=name, raw_input_contents=[payload] if payload else [], **fields)


def reply(**fields: Any) -> pb.ModelStreamInferResponse:
    return pb.ModelStreamInferResponse(infer_response=pb.ModelInferResponse(**fields))


def open_stream(opened: grpc.aio.Channel, gateway: Gateway, **options: Any) -> Any:
    stub = pb_grpc.GRPCInferenceServiceStub(opened)
    return stub.ModelStreamInfer(**{"metadata": gateway.metadata(), **options})


async def end(call: Any) -> grpc.aio.AioRpcError:
    """The status that a stream ends with, which must not be OK."""
    try:
        while await within(call.read()) is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("expected a refusal, got the end of the stream")


async def test_every_message_is_answered_when_it_comes(gateway: Gateway) -> None:
    async with (
        gateway.replica(),
        gateway.replica("vision", [model("other")], [inference("vision")]),
        gateway.channel() as opened,
    ):
        for name, service in (("echo", "toy"), ("toy/echo", "toy"), ("other", "vision")):
            call = open_stream(opened, gateway)
            for payload in (b"first", b"second"):
                # The second is sent only after the first was answered.
                await within(call.write(request(name, payload)))
                answer = (await within(call.read())).infer_response
                assert (answer.id, answer.raw_output_contents[0]) == (service, payload)
            await within(call.done_writing())
            assert await within(call.read()) is grpc.aio.EOF


async def test_the_replica_is_told_what_was_allowed(gateway: Gateway) -> None:
    seen: dict[str, str] = {}

    async def stream(requests: Any, context: Any) -> AsyncIterator[Any]:
        seen.update(context.invocation_metadata())
        async for one in requests:
            yield reply(model_name=one.model_name)

    async with gateway.replica(register=[toy(), serve(stream)]), gateway.channel() as opened:
        call = open_stream(opened, gateway, metadata=gateway.metadata("toy", subject="ana"))
        await within(call.write(request("toy/echo", model_version="1")))
        assert (await within(call.read())).infer_response.model_name == "toy/echo"
        await within(call.done_writing())
        assert await within(call.read()) is grpc.aio.EOF
    assert seen["x-sensorium-model"] == "toy/echo"
    assert seen["x-sensorium-version"] == "1"
    assert seen["x-sensorium-principal"] == "ana"


async def test_the_first_message_decides_who_may(gateway: Gateway) -> None:
    async with gateway.replica(), gateway.channel() as opened:
        call = open_stream(opened, gateway, metadata=gateway.metadata("vision"))
        await within(call.write(request("echo")))
        assert (await end(call)).code() is grpc.StatusCode.PERMISSION_DENIED
        for name, code in (
            ("none", grpc.StatusCode.NOT_FOUND),
            ("vision/echo", grpc.StatusCode.NOT_FOUND),
            ("", grpc.StatusCode.INVALID_ARGUMENT),
        ):
            call = open_stream(opened, gateway)
            await within(call.write(request(name)))
            assert (await end(call)).code() is code
        call = open_stream(opened, gateway, metadata=())
        assert (await end(call)).code() is grpc.StatusCode.UNAUTHENTICATED


async def test_what_was_sent_is_not_sent_to_another(gateway: Gateway) -> None:
    calls: list[str] = []

    async def refuse(requests: Any, context: Any) -> AsyncIterator[Any]:
        async for one in requests:
            calls.append(one.model_name)
            raise Unavailable("the toy", reason="it has just gone", retry_after_s=1)
        yield reply()

    registered = [toy(), serve(refuse)]
    async with (
        gateway.replica(register=registered),
        gateway.replica(register=registered),
        gateway.channel() as opened,
    ):
        call = open_stream(opened, gateway)
        await within(call.write(request("echo")))
        error = await end(call)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert get_details(get_status(error))["RetryInfo"].retry_delay.ToSeconds() == 1
    assert calls == ["echo"]


async def test_a_stream_is_longer_than_the_largest_message(gateway: Gateway) -> None:
    """Nothing of it is kept: 24 MiB pass where 4 MiB are the most that one message may have."""
    megabyte = b"x" * (1 << 20)
    async with gateway.replica(), gateway.channel() as opened:
        call = open_stream(opened, gateway)
        for _ in range(24):
            await within(call.write(request("echo", megabyte)))
            assert len((await within(call.read())).infer_response.raw_output_contents[0]) == 1 << 20
        await within(call.done_writing())
        assert await within(call.read()) is grpc.aio.EOF


async def test_who_does_not_read_stops_who_writes(gateway: Gateway) -> None:
    """Of a reply without end no more is made than lies in buffers on the way, and none once the reader is gone."""
    made = 0
    ended = asyncio.Event()
    payload = b"x" * (1 << 20)

    async def pour(requests: Any, context: Any) -> AsyncIterator[Any]:
        nonlocal made
        try:
            async for one in requests:
                while True:
                    made += len(payload)
                    yield reply(id=one.model_name, raw_output_contents=[payload])
        finally:
            ended.set()

    async with gateway.replica(register=[toy(), serve(pour)], front="grpcio"), gateway.channel() as opened:
        call = open_stream(opened, gateway)
        await within(call.write(request("echo")))
        assert (await within(call.read())).infer_response.id == "echo"
        before = -1

        async def stopped() -> bool:
            nonlocal before
            before, now = made, made
            await asyncio.sleep(0.2)
            return made == now

        await eventually(stopped, "the writer waits for the reader")
        assert made < HELD_BYTES
        call.cancel()
        await within(ended.wait())
    assert gateway.stat("http.mesh.downstream_rq_active") <= 1


async def test_who_does_not_take_stops_who_sends(gateway: Gateway) -> None:
    """Requests without end wait at the sender while the replica is busy with the first one."""
    go_on = asyncio.Event()
    payload = b"x" * (1 << 20)

    async def stall(requests: Any, context: Any) -> AsyncIterator[Any]:
        async for one in requests:
            await go_on.wait()
            yield reply(id=one.model_name)

    async with gateway.replica(register=[toy(), serve(stall)], front="grpcio"), gateway.channel() as opened:
        call = open_stream(opened, gateway)
        sent, stopped = 0, False
        while not stopped and sent < 2 * HELD_BYTES:
            try:
                async with asyncio.timeout(1):
                    await call.write(request("echo", payload))
                sent += len(payload)
            except TimeoutError:
                stopped = True
        assert stopped
        assert sent < HELD_BYTES
        go_on.set()
        call.cancel()


async def test_a_stream_has_bounds_of_its_own(new_gateway: Any) -> None:
    gateway = new_gateway(
        mesh=MESH.replace("timeouts: {default_s: 20, max_s: 30}", "timeouts: {max_s: 30, stream_s: 1}")
    )
    gateway.start()
    seen: dict[str, str] = {}

    async def echo(requests: Any, context: Any) -> AsyncIterator[Any]:
        seen.update(context.invocation_metadata())
        async for one in requests:
            yield reply(id=one.model_name)

    async with gateway.replica(register=[toy(), serve(echo)]), gateway.channel() as opened:
        call = open_stream(opened, gateway)
        begun_s = time.time()
        await within(call.write(request("echo")))
        assert (await within(call.read())).infer_response.id == "echo"
        assert abs(int(seen["x-sensorium-deadline"]) / 1000 - begun_s - 1) < 0.5
        assert (await end(call)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert 0.5 < time.time() - begun_s < 5
        # One that never sends its first message ends by the same bound.
        call = open_stream(opened, gateway)
        assert (await end(call)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
