"""Server reflection, v1 and v1alpha, over the descriptors of the generated stubs. Works on both fronts: the
native one hands bidirectional streams to a grpcio server behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection_pb2 as pb
from grpc_reflection.v1alpha import reflection_pb2_grpc as pb_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

V1_ALPHA = "grpc.reflection.v1alpha.ServerReflection"
# Message for message the same as v1alpha; grpcurl and others ask for it first.
V1 = "grpc.reflection.v1.ServerReflection"


def register_reflection(services: Sequence[str], server: Any) -> None:
    """Adds both versions to `server`; they list `services`, whose stubs must have been imported, and v1alpha
    itself.
    """
    servicer = ReflectionServicer([*services, V1_ALPHA])
    pb_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=pb.ServerReflectionRequest.FromString,
        response_serializer=pb.ServerReflectionResponse.SerializeToString,
    )
    server.add_registered_method_handlers(V1, {"ServerReflectionInfo": handler})
