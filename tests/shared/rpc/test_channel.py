"""Onward calls: what travels along, and a peer that comes back."""

from __future__ import annotations

import socket
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import BytesValue

from shared.rpc.channel import channel, make_onward_metadata
from shared.rpc.deadline import current_deadline
from tests.support.serving import serving
from tests.support.stub import call, echo, stub
from tests.support.waiting import within

TRACE = "0af7651916cd43dd8448eb211c80319c"


async def test_request_id_trace_and_deadline_travel_along(front: str) -> None:
    async def tell(request: BytesValue, context: Any) -> BytesValue:
        lines = [f"{key}={value}" for key, value in make_onward_metadata(current_deadline())]
        return BytesValue(value="\n".join(lines).encode())

    async with serving(stub(Tell=tell), front=front) as up:
        metadata = (("x-request-id", "r-1"), ("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"))
        told = (await within(call(up.channel, "Tell", metadata=metadata))).decode()
    sent = dict(line.split("=") for line in told.splitlines())
    assert sent["x-request-id"] == "r-1"
    version, trace_id, span_id, flags = sent["traceparent"].split("-")
    assert (version, trace_id, flags) == ("00", TRACE, "01")
    assert span_id != "b7ad6b7169203331"
    assert sent["x-sensorium-deadline"].isdigit()


async def test_outside_of_a_call_nothing_travels() -> None:
    assert make_onward_metadata() == ()


async def test_a_peer_that_comes_back_is_found_again(front: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    async with channel(address) as opened:
        with pytest.raises(grpc.aio.AioRpcError):
            await within(call(opened, "Echo"))
        for _ in range(2):
            async with serving(stub(Echo=echo), front=front, address=address):
                assert await within(call(opened, "Echo", b"x", wait_for_ready=True)) == b"x"
