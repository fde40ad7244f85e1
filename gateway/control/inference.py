"""The Open Inference Protocol's server-wide calls. Those for one model go straight to a replica that has it.

ModelReady comes here only for a model that is ready nowhere, ModelStatistics only without a name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf.message import Message
from sensorium.mesh.v1 import replica_service_pb2
from sensorium.oip.v2 import inference_pb2 as pb
from sensorium.oip.v2 import inference_pb2_grpc as pb_grpc

from gateway.contract import INFERENCE
from gateway.control.handler import make_handler
from gateway.control.view import View
from shared.errors import InvalidArgument
from shared.rpc.channel import channel, make_onward_metadata
from shared.rpc.deadline import current_deadline
from shared.rpc.metadata import EXTENSIONS, SERVER_NAME
from shared.telemetry.logging import get_logger

# A replica that does not answer in this time is left out of the sum.
_ASK_TIMEOUT_S = 2.0
_STATES = {
    replica_service_pb2.ModelStatus.STATE_READY: "READY",
    replica_service_pb2.ModelStatus.STATE_LOADING: "LOADING",
}


class InferenceServicer:
    """`methods` are those served here; the others of the protocol are not, and end in a refusal."""

    def __init__(self, view: View, version: str) -> None:
        self._view, self._version = view, version

    def methods(self) -> Mapping[str, grpc.RpcMethodHandler[Any, Any]]:
        """Handlers by name."""
        served: dict[str, tuple[Any, Any]] = {
            "ServerLive": (self.live, pb.ServerLiveRequest),
            "ServerReady": (self.ready, pb.ServerReadyRequest),
            "ServerMetadata": (self.metadata, pb.ServerMetadataRequest),
            "ModelReady": (self.model_ready, pb.ModelReadyRequest),
            "ModelStatistics": (self.statistics, pb.ModelStatisticsRequest),
            "RepositoryIndex": (self.index, pb.RepositoryIndexRequest),
        }
        return {name: make_handler(serve, request) for name, (serve, request) in served.items()}

    async def live(self, request: pb.ServerLiveRequest, context: Any) -> pb.ServerLiveResponse:
        """True: it answers."""
        return pb.ServerLiveResponse(live=True)

    async def ready(self, request: pb.ServerReadyRequest, context: Any) -> pb.ServerReadyResponse:
        """Whether every service has a replica that takes calls."""
        catalog = self._view.catalog
        ready = all(catalog.in_rotation(service) for service in catalog.services)
        return pb.ServerReadyResponse(ready=bool(catalog.services) and ready and not self._view.draining)

    async def metadata(self, request: pb.ServerMetadataRequest, context: Any) -> pb.ServerMetadataResponse:
        """Name, version, extensions."""
        return pb.ServerMetadataResponse(name=SERVER_NAME, version=self._version, extensions=EXTENSIONS)

    async def model_ready(self, request: pb.ModelReadyRequest, context: Any) -> pb.ModelReadyResponse:
        """Whether a known model answers somewhere. NOT_FOUND, or FAILED_PRECONDITION for a name that several have."""
        if not request.name:
            raise InvalidArgument(
                "name", expected="the name of a model", got="none", fix="RepositoryIndex lists them"
            )
        service, bare = self._view.catalog.find(request.name)
        return pb.ModelReadyResponse(ready=bare in self._view.catalog.ready_names(service))

    async def index(self, request: pb.RepositoryIndexRequest, context: Any) -> pb.RepositoryIndexResponse:
        """Every model under its public name; one of several graphs has an entry for each."""
        answer = pb.RepositoryIndexResponse()
        for known in self._view.catalog.models():
            state = _STATES.get(known.status.state, "UNAVAILABLE")
            if request.ready and state != "READY":
                continue
            reason = known.status.reason
            if state == "READY" and known.ready_replicas < known.replicas:
                reason = f"on {known.ready_replicas} of the {known.replicas} replicas that know it"
            for name in known.status.graphs or [known.status.name]:
                answer.models.add(
                    name=f"{known.service}/{name}", version=known.status.version, state=state, reason=reason
                )
        return answer

    async def statistics(
        self, request: pb.ModelStatisticsRequest, context: Any
    ) -> pb.ModelStatisticsResponse:
        """The sum over all replicas that answer, by model and version, under public names."""
        if request.name:
            service, bare = self._view.catalog.find(request.name)
            raise self._view.catalog.explain(service, bare)
        catalog = self._view.catalog
        replicas = [replica for service in catalog.services for replica in catalog.in_rotation(service)]
        answers = await asyncio.gather(*(self._ask(replica.endpoint) for replica in replicas))
        found: dict[tuple[str, str], pb.ModelStatistics] = {}
        for replica, answer in zip(replicas, answers, strict=True):
            for one in answer.model_stats:
                one.name = f"{replica.service}/{one.name.removeprefix(replica.service + '/')}"
                total = found.setdefault(
                    (one.name, one.version), pb.ModelStatistics(name=one.name, version=one.version)
                )
                add_statistics(total, one)
        return pb.ModelStatisticsResponse(model_stats=[total for _, total in sorted(found.items())])

    async def _ask(self, endpoint: str) -> pb.ModelStatisticsResponse:
        deadline = current_deadline()
        async with channel(endpoint) as open_channel:
            stub = pb_grpc.GRPCInferenceServiceStub(open_channel)
            try:
                answer: pb.ModelStatisticsResponse = await stub.ModelStatistics(
                    pb.ModelStatisticsRequest(),
                    timeout=min(_ASK_TIMEOUT_S, deadline.remaining_s()),
                    metadata=make_onward_metadata(deadline),
                )
            except grpc.aio.AioRpcError as error:
                get_logger("control").info(
                    "no statistics", endpoint=endpoint, code=error.code().name, service=INFERENCE
                )
                return pb.ModelStatisticsResponse()
        return answer


def add_statistics(total: pb.ModelStatistics, one: pb.ModelStatistics) -> None:
    """Adds `one` to `total`: counts and times are summed, the last inference is the later one."""
    total.last_inference = max(total.last_inference, one.last_inference)
    total.inference_count += one.inference_count
    total.execution_count += one.execution_count
    _add_durations(total.inference_stats, one.inference_stats)
    sizes = {batch.batch_size: batch for batch in total.batch_stats}
    for batch in one.batch_stats:
        into = sizes.get(batch.batch_size) or total.batch_stats.add(batch_size=batch.batch_size)
        _add_durations(into, batch)
    ordered = sorted(total.batch_stats, key=_batch_size)
    del total.batch_stats[:]
    total.batch_stats.extend(ordered)


def _add_durations(total: Message, one: Message) -> None:
    """Adds every StatisticDuration of `one` to that of `total`."""
    for field, value in one.ListFields():
        if isinstance(value, pb.StatisticDuration):
            into = getattr(total, field.name)
            into.count += value.count
            into.ns += value.ns


def _batch_size(batch: pb.InferBatchStatistics) -> int:
    return batch.batch_size
