"""grpc.health.v1 of the whole mesh: "" is the gateway, and every service and model has a name of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc as pb_grpc

from gateway.contract import INFERENCE, MESH
from gateway.control.view import View
from shared.errors import FailedPrecondition, NotFound


class HealthServicer(pb_grpc.HealthServicer):  # type: ignore[misc]  # untyped library
    """SERVING means that a call would be answered.

    "" and `inference.GRPCInferenceService`: some service has a replica that takes calls; `<service>` and
    `<full gRPC service name>`: that one has; `<model>`, `<service>/<model>`: it is ready somewhere; MeshService: always.
    """

    def __init__(self, view: View) -> None:
        self._view = view

    async def Check(self, request: pb.HealthCheckRequest, context: Any) -> pb.HealthCheckResponse:
        """The status now. NOT_FOUND for an unknown name."""
        return pb.HealthCheckResponse(status=self._status(request.service))

    async def Watch(
        self, request: pb.HealthCheckRequest, context: Any
    ) -> AsyncIterator[pb.HealthCheckResponse]:
        """The status now and after every change; SERVICE_UNKNOWN while the name is unknown."""
        last: int | None = None
        async for _ in self._view.changes():
            try:
                status = self._status(request.service)
            except (NotFound, FailedPrecondition):
                status = pb.HealthCheckResponse.SERVICE_UNKNOWN
            if status != last:
                last = status
                yield pb.HealthCheckResponse(status=status)

    def _status(self, name: str) -> Any:
        ready = not self._view.draining and self._ready(name)
        return pb.HealthCheckResponse.SERVING if ready else pb.HealthCheckResponse.NOT_SERVING

    def _ready(self, name: str) -> bool:
        catalog = self._view.catalog
        if name in ("", INFERENCE):
            return any(catalog.in_rotation(service) for service in catalog.services)
        if name == MESH:
            return True
        if name in catalog.services:
            return bool(catalog.in_rotation(name))
        owner = self._view.owner(name)
        if owner is not None:
            return bool(catalog.in_rotation(owner.name))
        service, bare = catalog.find(name)
        return bare in catalog.ready_names(service)
