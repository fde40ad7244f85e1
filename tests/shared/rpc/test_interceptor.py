"""Handlers that are refused, or answered for, when they are registered."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from sensorium.mesh.v1 import mesh_service_pb2_grpc

from tests.support.serving import serving
from tests.support.stub import echo, stub
from tests.support.waiting import within


async def test_a_method_that_a_servicer_leaves_out_says_so(front: str) -> None:
    def register(server: Any) -> None:
        servicer = mesh_service_pb2_grpc.MeshServiceServicer()
        mesh_service_pb2_grpc.add_MeshServiceServicer_to_server(servicer, server)

    async with serving(register, front=front) as up:
        with pytest.raises(grpc.aio.AioRpcError, match="declared and not served") as caught:
            await within(up.channel.unary_unary("/sensorium.mesh.v1.MeshService/GetLimits")(b"", timeout=10))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_handler_that_is_not_async_is_refused_at_once(front: str) -> None:
    def plain(request: BytesValue, context: Any) -> BytesValue:
        return request

    with pytest.raises(TypeError, match="expected an `async def` handler"):
        async with serving(stub(Plain=plain), front=front):  # type: ignore[arg-type]
            pass


async def test_stubs_of_the_older_form_are_refused_at_once(front: str) -> None:
    def register(server: Any) -> None:
        handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("old.Service", handlers),))

    with pytest.raises(TypeError, match=r"old\.Service: generate its stubs anew"):
        async with serving(register, front=front):
            pass
