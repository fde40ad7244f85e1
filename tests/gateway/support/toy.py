"""A contract that no part of the repository knows: descriptors built here, messages made from them, and its servicers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from sensorium.mesh.v1.replica_service_pb2 import ModelStatus
from sensorium.oip.v2 import inference_pb2, inference_pb2_grpc

SERVICE = "toy.v1.ToyService"
TYPE = descriptor_pb2.FieldDescriptorProto


def file() -> descriptor_pb2.FileDescriptorProto:
    """The file `toy/v1/toy.proto`."""
    made = descriptor_pb2.FileDescriptorProto(name="toy/v1/toy.proto", package="toy.v1", syntax="proto3")
    made.dependency.append("google/api/annotations.proto")
    asked = made.message_type.add(name="SayRequest")
    asked.field.add(name="model", number=1, type=TYPE.TYPE_STRING, label=TYPE.LABEL_OPTIONAL)
    asked.field.add(name="text", number=2, type=TYPE.TYPE_STRING, label=TYPE.LABEL_OPTIONAL)
    asked.field.add(
        name="a_number", number=3, type=TYPE.TYPE_INT32, label=TYPE.LABEL_OPTIONAL, json_name="aNumber"
    )
    answer = made.message_type.add(name="SayResponse")
    answer.field.add(name="text", number=1, type=TYPE.TYPE_STRING, label=TYPE.LABEL_OPTIONAL)
    answer.field.add(name="replica", number=2, type=TYPE.TYPE_STRING, label=TYPE.LABEL_OPTIONAL)
    answer.field.add(name="metadata", number=3, type=TYPE.TYPE_STRING, label=TYPE.LABEL_REPEATED)
    answer.field.add(
        name="a_number", number=4, type=TYPE.TYPE_INT32, label=TYPE.LABEL_OPTIONAL, json_name="aNumber"
    )
    answer.field.add(
        name="mood", number=5, type=TYPE.TYPE_ENUM, type_name=".toy.v1.Mood", label=TYPE.LABEL_OPTIONAL
    )
    mood = made.enum_type.add(name="Mood")
    mood.value.add(name="MOOD_UNSPECIFIED", number=0)
    mood.value.add(name="MOOD_GOOD", number=1)
    service = made.service.add(name="ToyService")

    def method(name: str, level: int, path: str = "", **streams: bool) -> None:
        added = service.method.add(
            name=name, input_type=".toy.v1.SayRequest", output_type=".toy.v1.SayResponse", **streams
        )
        added.options.idempotency_level = level  # type: ignore[assignment]
        if path:
            rule = added.options.Extensions[annotations_pb2.http]
            rule.post = path
            rule.body = "*"

    options = descriptor_pb2.MethodOptions
    method("Say", options.NO_SIDE_EFFECTS, "/v1/toys:say")
    method("Write", options.IDEMPOTENCY_UNKNOWN, "/v1/toys:write")
    method("StreamingCount", options.NO_SIDE_EFFECTS, "/v1/toys:count", server_streaming=True)
    return made


def descriptor_set() -> bytes:
    """What a service of somebody else's would bring along."""
    found = descriptor_pb2.FileDescriptorSet()
    for name in ("google/protobuf/descriptor.proto", "google/api/http.proto", "google/api/annotations.proto"):
        found.file.add().ParseFromString(descriptor_pool.Default().FindFileByName(name).serialized_pb)
    found.file.append(file())
    return found.SerializeToString()


def _message(name: str) -> Any:
    pool = descriptor_pool.DescriptorPool()
    for one in descriptor_pb2.FileDescriptorSet.FromString(descriptor_set()).file:
        pool.Add(one)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


SayRequest = _message("toy.v1.SayRequest")
SayResponse = _message("toy.v1.SayResponse")
Say = Callable[[Any, Any], Awaitable[Any]]


async def say(request: Any, context: Any) -> Any:
    """Says what it was told, who it is, and with which metadata it was called."""
    metadata = [f"{key}={value}" for key, value in context.invocation_metadata() if isinstance(value, str)]
    return SayResponse(
        text=request.text,
        replica=str(os.getpid()),
        metadata=sorted(metadata),
        a_number=request.a_number,
        mood=1,
    )


async def _count(request: Any, context: Any) -> AsyncIterator[Any]:
    for number in range(request.a_number):
        yield SayResponse(a_number=number)


def toy(say_: Say = say, write: Say = say) -> Callable[[Any], None]:
    """What registers ToyService."""

    def register(server: Any) -> None:
        pair = {
            "request_deserializer": SayRequest.FromString,
            "response_serializer": SayResponse.SerializeToString,
        }
        server.add_registered_method_handlers(
            SERVICE,
            {
                "Say": grpc.unary_unary_rpc_method_handler(say_, **pair),
                "Write": grpc.unary_unary_rpc_method_handler(write, **pair),
                "StreamingCount": grpc.unary_stream_rpc_method_handler(_count, **pair),
            },
        )

    return register


class Inference(inference_pb2_grpc.GRPCInferenceServiceServicer):
    """Echoes tensors, and says which service answered."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        return inference_pb2.ModelInferResponse(
            model_name=request.model_name,
            id=self._name,
            raw_output_contents=request.raw_input_contents,
        )

    async def ModelStreamInfer(self, requests: Any, context: Any) -> Any:
        async for request in requests:
            yield inference_pb2.ModelStreamInferResponse(
                infer_response=await self.ModelInfer(request, context)
            )

    async def ModelReady(self, request: Any, context: Any) -> Any:
        return inference_pb2.ModelReadyResponse(ready=True)

    async def ModelStatistics(self, request: Any, context: Any) -> Any:
        answer = inference_pb2.ModelStatisticsResponse()
        one = answer.model_stats.add(name="echo", version="1", inference_count=3, execution_count=2)
        one.inference_stats.success.count = 3
        one.inference_stats.success.ns = 30
        one.batch_stats.add(batch_size=2).compute_infer.count = 1
        return answer


def inference(name: str) -> Callable[[Any], None]:
    """What registers the inference service of a replica of the service `name`."""
    return lambda server: inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
        Inference(name), server
    )


def model(
    name: str,
    *,
    ready: bool = True,
    reason: str = "",
    default_for: tuple[str, ...] = (),
    graphs: tuple[str, ...] = (),
) -> Any:
    """What a replica says of one of its models."""
    return ModelStatus(
        name=name,
        version="1",
        state=ModelStatus.STATE_READY if ready else ModelStatus.STATE_UNAVAILABLE,
        reason=reason,
        default_for=default_for,
        graphs=graphs or (name,),
    )
