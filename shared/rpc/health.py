"""grpc.health.v1 over a Replica: the whole process, its services, its models by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import aclosing
from typing import Any

from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc as pb_grpc

from shared.errors import NotFound
from shared.rpc.replica import Replica

Status = pb.HealthCheckResponse.ServingStatus
# Asked about this service itself the answer is that it serves: whoever restarts processes wants to know whether this one
# answers at all, not whether it is ready.
_OWN = pb.DESCRIPTOR.services_by_name["Health"].full_name


class HealthServicer(pb_grpc.HealthServicer):  # type: ignore[misc]  # its package has no types
    """Answers for "" (the whole process), `<full service name>`, `<model>` and `<service>/<model>`."""

    def __init__(self, replica: Replica, services: Collection[str]) -> None:
        self._replica = replica
        self._services = services

    async def Check(self, request: pb.HealthCheckRequest, context: Any) -> pb.HealthCheckResponse:
        """SERVING or NOT_SERVING now. NOT_FOUND for an unknown name."""
        status = self._get_status(request.service)
        if status is None:
            names = {model.name for model in self._replica.models}
            raise NotFound("service or model", request.service, known=[*self._services, *sorted(names)])
        return pb.HealthCheckResponse(status=status)

    async def Watch(
        self, request: pb.HealthCheckRequest, context: Any
    ) -> AsyncIterator[pb.HealthCheckResponse]:
        """The status now and after every change, until the server stops; SERVICE_UNKNOWN while the name is
        unknown.
        """
        last: int | None = None
        async with aclosing(self._replica.changes()) as changes:
            async for _ in changes:
                status = self._get_status(request.service)
                if status is None:
                    status = pb.HealthCheckResponse.SERVICE_UNKNOWN
                if status != last:
                    last = status
                    yield pb.HealthCheckResponse(status=status)

    async def List(self, request: pb.HealthListRequest, context: Any) -> pb.HealthListResponse:
        """The status of every name."""
        names = ["", *self._services, *(model.name for model in self._replica.models)]
        statuses = {name: pb.HealthCheckResponse(status=self._get_status(name)) for name in names}
        return pb.HealthListResponse(statuses=statuses)

    def _get_status(self, name: str) -> Any:
        if name == _OWN:
            return pb.HealthCheckResponse.SERVING
        if name == "" or name in self._services:
            ready: bool | None = self._replica.ready
        else:
            ready = self._replica.get_model_ready(name)
        if ready is None:
            return None
        return pb.HealthCheckResponse.SERVING if ready else pb.HealthCheckResponse.NOT_SERVING
