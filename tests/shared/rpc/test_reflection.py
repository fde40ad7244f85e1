"""Server reflection in both versions."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2
from sensorium.mesh.v1 import mesh_service_pb2_grpc

from shared.rpc.reflection import V1, V1_ALPHA
from tests.support.serving import serving
from tests.support.waiting import take


@pytest.mark.parametrize("version", [V1, V1_ALPHA])
async def test_reflection_lists_and_describes(front: str, version: str) -> None:
    def register(server: Any) -> None:
        servicer = mesh_service_pb2_grpc.MeshServiceServicer()
        mesh_service_pb2_grpc.add_MeshServiceServicer_to_server(servicer, server)

    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="sensorium.mesh.v1.MeshService"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="sensorium.nowhere"),
    ]
    async with serving(register, front=front) as up:
        method = up.channel.stream_stream(
            f"/{version}/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        replies = aiter(method(iter(requests), timeout=10))
        listed = await take(replies)
        names = {service.name for service in listed.list_services_response.service}
        assert {"sensorium.mesh.v1.MeshService", "grpc.health.v1.Health", V1_ALPHA} <= names
        described = (await take(replies)).file_descriptor_response.file_descriptor_proto
        files = [descriptor_pb2.FileDescriptorProto.FromString(file) for file in described]
        assert "sensorium/mesh/v1/mesh_service.proto" in {file.name for file in files}
        assert (await take(replies)).error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
