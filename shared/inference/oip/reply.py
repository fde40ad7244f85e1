"""What the Open Inference Protocol's calls answer, made of arrays, signatures and states.

Here: pure functions. Not here: the calls (`servicer.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sensorium.oip.v2 import inference_pb2 as pb
from sensorium.oip.v2 import model_config_pb2 as config_pb

from shared.inference.batching.waiting import Answer
from shared.inference.datatypes import CONTENTS_FIELDS, encode_contents, encode_raw
from shared.inference.manifest import Tensor
from shared.inference.model import ServedGraph
from shared.inference.oip.request import Asked
from shared.inference.repository.versions import LOADING, READY, Version

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"


def make_infer_response(
    request: pb.ModelInferRequest, version: str, types: Mapping[str, str], asked: Asked, answer: Answer
) -> pb.ModelInferResponse:
    """The outputs in the order they were asked for; `types` are their datatypes.

    Their elements lie raw if the request's did. A typed request is answered in typed lists, unless an output is
    FP16, which no list carries: then all are raw.
    """
    reply = pb.ModelInferResponse(model_name=request.model_name, model_version=version, id=request.id)
    raw = asked.raw or any(types[name] not in CONTENTS_FIELDS for name in answer.outputs)
    for name, array in answer.outputs.items():
        output = reply.outputs.add(name=name, datatype=types[name], shape=array.shape)
        if raw:
            reply.raw_output_contents.append(encode_raw(types[name], array))
        else:
            encode_contents(types[name], array, output.contents)
    return reply


def make_metadata(name: str, graph: ServedGraph) -> pb.ModelMetadataResponse:
    """A graph's tensors, batch axis included; `name` as the request wrote it."""
    signature = graph.loaded.signature
    return pb.ModelMetadataResponse(
        name=name,
        versions=[graph.artifact.version],
        platform=PLATFORM,
        inputs=_make_tensors(signature.inputs),
        outputs=_make_tensors(signature.outputs),
    )


def make_config(name: str, graph: ServedGraph) -> pb.ModelConfigResponse:
    """How a graph is served, as the protocol's clients know it; `name` as the request wrote it."""
    loaded, artifact = graph.loaded, graph.artifact
    # With a batch axis the protocol leaves it out of the dimensions.
    skip = 1 if loaded.max_batch_size else 0
    config = config_pb.ModelConfig(
        name=name,
        platform=PLATFORM,
        backend=BACKEND,
        max_batch_size=loaded.max_batch_size,
        input=[
            config_pb.ModelInput(
                name=tensor.name, data_type=_find_type(tensor.dtype), dims=tensor.shape[skip:]
            )
            for tensor in loaded.signature.inputs
        ],
        output=[
            config_pb.ModelOutput(
                name=tensor.name, data_type=_find_type(tensor.dtype), dims=tensor.shape[skip:]
            )
            for tensor in loaded.signature.outputs
        ],
        instance_group=[
            config_pb.ModelInstanceGroup(
                name=graph.name,
                count=1,
                kind=config_pb.ModelInstanceGroup.KIND_CPU
                if loaded.session.provider == "CPUExecutionProvider"
                else config_pb.ModelInstanceGroup.KIND_GPU,
            )
        ],
        default_model_filename=loaded.signature.file,
    )
    if loaded.max_batch_size > 1:
        delay_s = graph.batcher.max_queue_delay_s
        config.dynamic_batching.max_queue_delay_microseconds = round(delay_s * 1e6)
    for key, value in (
        ("digest", artifact.digest),
        ("service", artifact.service),
        ("task", artifact.task),
        ("description", artifact.description),
        ("license", artifact.license),
        ("execution_provider", loaded.session.provider),
    ):
        config.parameters[key].string_value = value
    return pb.ModelConfigResponse(config=config)


def make_index(versions: Iterable[Version], *, ready_only: bool) -> pb.RepositoryIndexResponse:
    """Every model, one entry for each graph where they are known."""
    reply = pb.RepositoryIndexResponse()
    for version in versions:
        if ready_only and version.state != READY:
            continue
        state = (
            "READY" if version.state == READY else "LOADING" if version.state == LOADING else "UNAVAILABLE"
        )
        names = [version.name]
        if version.model is not None:
            names = [graph.name for graph in version.model.graphs.values()]
        for name in names:
            reply.models.add(name=name, version=version.version, state=state, reason=version.reason)
    return reply


def _make_tensors(
    tensors: Iterable[Tensor],
) -> list[pb.ModelMetadataResponse.TensorMetadata]:
    return [
        pb.ModelMetadataResponse.TensorMetadata(name=tensor.name, datatype=tensor.dtype, shape=tensor.shape)
        for tensor in tensors
    ]


def _find_type(dtype: str) -> config_pb.DataType.ValueType:
    return config_pb.DataType.Value("TYPE_STRING" if dtype == "BYTES" else f"TYPE_{dtype}")
