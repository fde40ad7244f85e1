"""The tensor half of the mesh in this process: what goes in comes out, under the names of the outputs."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from sensorium.oip.v2 import inference_pb2 as pb
from sensorium.oip.v2 import inference_pb2_grpc

from tests.clients.mesh_in_process import Seen


class Inference(inference_pb2_grpc.GRPCInferenceServiceServicer):
    """Echoes each input `x` as the output `x`; of a message without inputs it says that it is none.

    The models `missing` is not there, `one` answers one message of a stream and goes, `dies` likewise with an error, `wait`
    answers none before the call is over.
    """

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    def ModelInfer(self, request, context):
        self.seen.note(request, context)
        if request.model_name == "missing":
            context.abort(grpc.StatusCode.NOT_FOUND, "no model is named missing")
        return echo(request)

    def ModelStreamInfer(self, requests: Iterator[pb.ModelInferRequest], context):
        context.add_callback(self.seen.cancelled.set)
        for request in requests:
            self.seen.note(request, context)
            if not request.inputs:
                yield pb.ModelStreamInferResponse(error_message="inputs: expected tensors, got none")
                continue
            if request.model_name == "wait":
                self.seen.cancelled.wait(20)
            yield pb.ModelStreamInferResponse(infer_response=echo(request))
            if request.model_name == "dies":
                context.abort(grpc.StatusCode.INTERNAL, "it died")
            if request.model_name == "one":
                return

    def RepositoryModelLoad(self, request, context):
        self.seen.note(request, context)
        context.abort(grpc.StatusCode.UNAVAILABLE, "not now")


def echo(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    reply = pb.ModelInferResponse(model_name=request.model_name, model_version=request.model_version or "1")
    wanted = {output.name for output in request.outputs}
    for tensor, content in zip(request.inputs, request.raw_input_contents, strict=True):
        if not wanted or tensor.name in wanted:
            reply.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            reply.raw_output_contents.append(content)
    if request.model_name == "short":
        reply.raw_output_contents.pop()
    return reply
