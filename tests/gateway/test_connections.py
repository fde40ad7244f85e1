"""How long connections last: old ones are replaced by new ones, and no call is lost by it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from sensorium.oip.v2 import inference_pb2 as pb
from sensorium.oip.v2 import inference_pb2_grpc as pb_grpc

from gateway.config import Mesh
from gateway.envoy.listener import render_listener
from tests.gateway.support.running import MESH, Gateway, eventually
from tests.gateway.support.toy import SERVICE, SayRequest, SayResponse, inference, toy
from tests.support.waiting import within

AGE_S = 0.5
# From telling a caller that the connection goes until it is closed, where no call is left on it: Envoy's default.
NOTICE_S = 5.0
CALLERS = 8


@pytest.fixture
def aging(new_gateway: Any) -> Gateway:
    """A gateway whose connections soon are old."""
    gateway: Gateway = new_gateway(
        mesh=MESH.replace("limits: {", f"limits: {{max_connection_age_s: {AGE_S}, ")
    )
    gateway.start()
    return gateway


def opened(gateway: Gateway) -> int:
    """Connections of callers, of all times."""
    return gateway.stat("http.mesh.downstream_cx_total")


@pytest.mark.timeout(90)
async def test_calls_go_on_over_new_connections_and_none_is_lost(aging: Gateway) -> None:
    """Short ones one after another, long ones in flight when the connection gets old, and a stream that outlasts it."""
    go_on = asyncio.Event()

    async def say(request: Any, context: Any) -> Any:
        if request.text == "long":
            await go_on.wait()
        return SayResponse(text=request.text)

    registered = [toy(say), inference("toy")]
    metadata, over = aging.metadata(), asyncio.Event()
    async with aging.replica(register=registered), aging.channel() as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/Say",
            request_serializer=SayRequest.SerializeToString,
            response_deserializer=SayResponse.FromString,
        )

        async def call_again_and_again() -> int:
            answered = 0
            while not over.is_set():
                answer = await within(call(SayRequest(text=str(answered)), metadata=metadata, timeout=10))
                assert answer.text == str(answered)
                answered += 1
            return answered

        stream = pb_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(metadata=metadata)
        await within(stream.write(pb.ModelInferRequest(model_name="echo", raw_input_contents=[b"first"])))
        assert (await within(stream.read())).infer_response.raw_output_contents[0] == b"first"
        before = opened(aging)
        held = [call(SayRequest(text="long"), metadata=metadata, timeout=20) for _ in range(CALLERS)]
        callers = [asyncio.create_task(call_again_and_again()) for _ in range(CALLERS)]
        loop = asyncio.get_running_loop()
        begun_s = loop.time()

        async def replaced() -> bool:
            # The first connection has by then been told for good, and waits for what is in flight alone.
            return opened(aging) >= before + 4 and loop.time() - begun_s > NOTICE_S + 2 * AGE_S

        await eventually(replaced, "connections were replaced")
        assert aging.stat("http.mesh.downstream_cx_max_duration_reached") >= 4
        go_on.set()
        assert [(await within(one)).text for one in held] == ["long"] * CALLERS
        await within(stream.write(pb.ModelInferRequest(model_name="echo", raw_input_contents=[b"last"])))
        assert (await within(stream.read())).infer_response.raw_output_contents[0] == b"last"
        await within(stream.done_writing())
        over.set()
        assert min(await within(asyncio.gather(*callers))) > 10


async def test_http_1_connections_end_with_an_answer(aging: Gateway) -> None:
    async with aging.replica(), httpx.AsyncClient(base_url=aging.url, timeout=20) as client:
        before, said = opened(aging), 0

        async def replaced() -> bool:
            nonlocal said
            answer = await client.post("/v1/toys:say", json={"text": "a"}, headers=aging.headers())
            assert answer.status_code == 200
            said += answer.headers.get("connection") == "close"
            return said >= 3

        await eventually(replaced, "connections were replaced")
        # Beside the client's: whoever asks for the replicas' state.
        assert opened(aging) - before >= 3


def test_connections_may_last() -> None:
    mesh = Mesh.model_validate({"limits": {"max_connection_age_s": 0}})
    listener: Any = render_listener(mesh, "127.0.0.1:1", [], Path("/d"), None)
    connection = listener["filter_chains"][0]["filters"][0]["typed_config"]
    assert connection["common_http_protocol_options"].keys() == {"idle_timeout"}
