"""Shared memory, of which there is none: clients of the Open Inference Protocol ask before they fall back to messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import Message
from sensorium.oip.v2 import inference_pb2 as pb

from gateway.control.handler import Serve, make_handler
from shared.errors import NotFound, Unimplemented


def methods() -> Mapping[str, grpc.RpcMethodHandler[Any, Any]]:
    """Handlers by name, of both kinds of memory."""
    found = {}
    for kind in ("SystemSharedMemory", "CudaSharedMemory"):
        for verb, make in (("Status", _find), ("Register", _refuse), ("Unregister", _find)):
            name = f"{kind}{verb}"
            found[name] = make_handler(make(getattr(pb, f"{name}Response")), getattr(pb, f"{name}Request"))
    return found


def _find(response: Callable[[], Message]) -> Serve:
    """Of all regions there are none; of a named one it is said that it is not there."""

    async def serve(request: Any, context: Any) -> Message:
        if request.name:
            raise NotFound("region of shared memory", request.name, known=())
        return response()

    return serve


def _refuse(response: Callable[[], Message]) -> Serve:
    async def serve(request: Any, context: Any) -> Message:
        raise Unimplemented("shared memory is not served here: send the tensors in the request")

    return serve
