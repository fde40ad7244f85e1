"""MeshService: models, replicas and limits of the whole mesh, from the roster."""

from __future__ import annotations

from typing import Any

from sensorium.mesh.v1 import mesh_service_pb2 as pb
from sensorium.mesh.v1 import mesh_service_pb2_grpc as pb_grpc
from sensorium.types.v1 import limits_pb2

from gateway.control.view import View
from shared.errors import NotFound


class MeshServicer(pb_grpc.MeshServiceServicer):
    """Answers from what is known now; asks no replica."""

    def __init__(self, view: View) -> None:
        self._view = view

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        """Every model that any replica knows. NOT_FOUND for a service that is not configured."""
        self._check(request.service)
        return pb.ListModelsResponse(
            models=[
                pb.MeshModel(
                    service=known.service,
                    model=known.status,
                    ready_replicas=known.ready_replicas,
                    replicas=known.replicas,
                )
                for known in self._view.catalog.models()
                if request.service in ("", known.service)
            ]
        )

    async def ListReplicas(self, request: pb.ListReplicasRequest, context: Any) -> pb.ListReplicasResponse:
        """Every replica, reachable or not. NOT_FOUND for a service that is not configured."""
        self._check(request.service)
        return pb.ListReplicasResponse(
            replicas=[
                pb.MeshReplica(
                    service=replica.service,
                    endpoint=replica.endpoint,
                    state=replica.state.value,
                    reason=replica.reason,
                    models=replica.report.models,
                    server_version=replica.report.server_version,
                )
                for replica in self._view.catalog.replicas
                if request.service in ("", replica.service)
            ]
        )

    async def GetLimits(self, request: pb.GetLimitsRequest, context: Any) -> pb.GetLimitsResponse:
        """The bounds of every rpc, none above the gateway's own; where replicas differ, those of the first."""
        found: dict[str, limits_pb2.RpcLimits] = {}
        for replica in self._view.catalog.replicas:
            for limits in replica.report.limits:
                found.setdefault(limits.method, limits)
        own = self._view.mesh.limits.max_message_bytes
        answer = pb.GetLimitsResponse()
        for _, limits in sorted(found.items()):
            added = answer.limits.add()
            added.CopyFrom(limits)
            added.max_message_bytes = min(added.max_message_bytes or own, own)
        return answer

    def _check(self, service: str) -> None:
        services = self._view.catalog.services
        if service and service not in services:
            raise NotFound("service", service, known=services)
