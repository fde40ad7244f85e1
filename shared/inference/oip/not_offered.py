"""The protocol's calls that are declared and not served: shared memory and traces.

Clients ask for the state of shared memory to clean up after themselves, so that there being none is an answer; to use it,
and to change traces, is refused with what to do instead.
"""

from __future__ import annotations

from typing import Any

from sensorium.oip.v2 import inference_pb2 as pb
from sensorium.oip.v2 import inference_pb2_grpc as pb_grpc

from shared.errors import NotFound, Unimplemented

_SHARED_MEMORY = (
    "shared memory is not offered, for a client need not be on the replica's machine; "
    "send tensors in the request, as raw_input_contents"
)
_TRACES = "trace settings are not offered; a call is traced by its header `traceparent`, and says its times in its trailers"


class NotOffered(pb_grpc.GRPCInferenceServiceServicer):
    """The calls that are not served, as a part of the servicer."""

    async def SystemSharedMemoryStatus(
        self, request: pb.SystemSharedMemoryStatusRequest, context: Any
    ) -> pb.SystemSharedMemoryStatusResponse:
        """No regions."""
        _refuse_region(request.name)
        return pb.SystemSharedMemoryStatusResponse()

    async def SystemSharedMemoryRegister(
        self, request: pb.SystemSharedMemoryRegisterRequest, context: Any
    ) -> pb.SystemSharedMemoryRegisterResponse:
        """Refused."""
        raise Unimplemented(_SHARED_MEMORY)

    async def SystemSharedMemoryUnregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest, context: Any
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """All none of them."""
        _refuse_region(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(
        self, request: pb.CudaSharedMemoryStatusRequest, context: Any
    ) -> pb.CudaSharedMemoryStatusResponse:
        """No regions."""
        _refuse_region(request.name)
        return pb.CudaSharedMemoryStatusResponse()

    async def CudaSharedMemoryRegister(
        self, request: pb.CudaSharedMemoryRegisterRequest, context: Any
    ) -> pb.CudaSharedMemoryRegisterResponse:
        """Refused."""
        raise Unimplemented(_SHARED_MEMORY)

    async def CudaSharedMemoryUnregister(
        self, request: pb.CudaSharedMemoryUnregisterRequest, context: Any
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        """All none of them."""
        _refuse_region(request.name)
        return pb.CudaSharedMemoryUnregisterResponse()

    async def TraceSetting(self, request: pb.TraceSettingRequest, context: Any) -> pb.TraceSettingResponse:
        """Refused."""
        raise Unimplemented(_TRACES)


def _refuse_region(name: str) -> None:
    if name:
        raise NotFound("region of shared memory", name, known=())
