"""A service that does what the test at hand wants of it: one coroutine for each method, no generated code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import BytesValue

SERVICE = "sensorium.stub.v1.StubService"

Unary = Callable[[BytesValue, Any], Awaitable[BytesValue]]
Stream = Callable[[BytesValue, Any], AsyncIterator[BytesValue]]


def stub(**methods: Unary | Stream) -> Callable[[Any], None]:
    """What registers StubService with `methods`: BytesValue in, BytesValue out; a name that starts with `Streaming` is an
    async generator.
    """

    def register(server: Any) -> None:
        handlers = {}
        for name, behavior in methods.items():
            make = (
                grpc.unary_stream_rpc_method_handler
                if name.startswith("Streaming")
                else grpc.unary_unary_rpc_method_handler
            )
            handlers[name] = make(
                behavior,
                request_deserializer=BytesValue.FromString,
                response_serializer=BytesValue.SerializeToString,
            )
        server.add_registered_method_handlers(SERVICE, handlers)

    return register


async def echo(request: BytesValue, context: Any) -> BytesValue:
    """Answers what it was sent."""
    return request


def get_method(channel: grpc.aio.Channel, name: str) -> Any:
    """The callable of one method of StubService on `channel`."""
    make = channel.unary_stream if name.startswith("Streaming") else channel.unary_unary
    return make(
        f"/{SERVICE}/{name}",
        request_serializer=BytesValue.SerializeToString,
        response_deserializer=BytesValue.FromString,
    )


async def call(channel: grpc.aio.Channel, name: str, value: bytes = b"", **options: Any) -> bytes:
    """Calls a unary method of StubService; options: those of grpc's multicallable. Ten seconds unless told otherwise."""
    options.setdefault("timeout", 10.0)
    reply = await get_method(channel, name)(BytesValue(value=value), **options)
    return bytes(reply.value)
