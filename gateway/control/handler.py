"""One unary method of the Open Inference Protocol as a server takes it: a handler without generated code around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import Message

__all__ = ["Serve", "make_handler"]

Serve = Callable[[Any, Any], Awaitable[Message]]


def make_handler(serve: Serve, request: type[Message]) -> grpc.RpcMethodHandler[Any, Any]:
    """The handler that decodes `request`, awaits `serve(request, context)` and encodes what it gives."""
    return grpc.unary_unary_rpc_method_handler(
        serve, request_deserializer=request.FromString, response_serializer=_serialize
    )


def _serialize(reply: Message) -> bytes:
    return reply.SerializeToString()
