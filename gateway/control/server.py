"""The control plane's own gRPC server, on a Unix socket behind Envoy: what is known already, everything else refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer
from sensorium.mesh.v1 import mesh_service_pb2_grpc

from gateway.contract import HEALTH, INFERENCE, MESH, REFLECTIONS, Contract
from gateway.control import memory
from gateway.control.administration import AdministrationServicer
from gateway.control.health import HealthServicer
from gateway.control.inference import InferenceServicer
from gateway.control.mesh import MeshServicer
from gateway.control.refusal import explain
from gateway.control.view import View
from shared.rpc.admission.admission import Admission
from shared.rpc.gate import Gate
from shared.rpc.interceptor import Registry, intercept
from shared.rpc.listen import check_address, describe_failure
from shared.rpc.metadata import read_version
from shared.rpc.method import Method
from shared.rpc.settings import RpcSettings
from shared.telemetry.metrics import CallMetrics

# Watches of the gateway's health end with it; this is for answers under way.
_FAREWELL_S = 0.5


class ControlServer:
    """Serves the mesh-wide calls from `view`.

    Reflection speaks from the descriptor sets: a service that the gateway has no stubs of is described all the same.
    """

    def __init__(self, view: View, socket: Path, metrics: CallMetrics) -> None:
        self._view = view
        self._settings = RpcSettings(
            address=f"unix:{socket}", front="grpcio", max_message_bytes=view.mesh.limits.max_message_bytes
        )
        self._bind = partial(
            Method.bind,
            settings=self._settings,
            gate=Gate("control plane"),
            metrics=metrics,
            admission=Admission(self._settings.admission),
        )
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listens. Raises StartupError if the socket cannot be had."""
        address = self._settings.address
        check_address(address)
        limit = self._settings.max_message_bytes + 64 * 1024
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", limit)])
        self._register(server)
        try:
            server.add_insecure_port(address)
        except RuntimeError as error:
            raise describe_failure(address) from error
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Ends what is under way, and the watches."""
        if self._server is not None:
            await self._server.stop(_FAREWELL_S)

    def _register(self, server: grpc.aio.Server) -> None:
        # It takes the place of the server for generated code, which asks for nothing else of it.
        registry: Any = Registry(server, self._bind)
        mesh_service_pb2_grpc.add_MeshServiceServicer_to_server(MeshServicer(self._view), registry)
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(self._view), registry)
        inference = InferenceServicer(self._view, read_version()).methods()
        administration = AdministrationServicer(self._view).methods()
        registry.add_registered_method_handlers(
            INFERENCE, {**inference, **administration, **memory.methods()}
        )
        served = [grpc for service in self._view.mesh.services for grpc in service.grpc]
        reflection = ReflectionServicer(
            [*served, INFERENCE, MESH, HEALTH, *REFLECTIONS], pool=_pool(self._view.contract)
        )
        for name in REFLECTIONS:
            # Message for message the same in both versions.
            handler = grpc.stream_stream_rpc_method_handler(
                reflection.ServerReflectionInfo,
                request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
                response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
            )
            registry.add_registered_method_handlers(name, {"ServerReflectionInfo": handler})
        server.add_generic_rpc_handlers((_Refusals(self._view, self._bind("control", "Refuse")),))


class _Refusals(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in its stubs only
    """Takes every method that nobody else does. Streams both ways: that shape fits the others, and reads nothing first."""

    def __init__(self, view: View, method: Method) -> None:
        self._view, self._method = view, method

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """A handler that ends the call with the error it deserves."""
        path = handler_call_details.method
        pairs: Any = handler_call_details.invocation_metadata or ()
        metadata = {key: value for key, value in pairs if isinstance(value, str)}

        async def refuse(requests: Any, context: Any) -> AsyncIterator[bytes]:
            raise explain(self._view, path, metadata)
            yield b""  # makes it a stream

        return intercept(self._method, grpc.stream_stream_rpc_method_handler(refuse))


def _pool(contract: Contract) -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for file in contract.files:
        pool.Add(file)
    return pool
