"""What the Open Inference Protocol's calls answer, made of arrays, signatures and states.

Here: pure functions. Not here: the calls (`servicer.py`), how a graph is served (`config.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from sensorium.oip.v2 import inference_pb2 as pb

from shared.inference.batching.waiting import Answer
from shared.inference.datatypes import CONTENTS_FIELDS, Array, encode_contents, encode_raw
from shared.inference.manifest import Tensor
from shared.inference.model import ServedGraph
from shared.inference.oip.classification import classify
from shared.inference.oip.config import PLATFORM
from shared.inference.oip.request import Asked
from shared.inference.repository.versions import LOADING, READY, Version


def make_infer_response(
    request: pb.ModelInferRequest, version: str, types: Mapping[str, str], asked: Asked, answer: Answer
) -> pb.ModelInferResponse:
    """The outputs in the order they were asked for; `types` are their datatypes.

    Their elements lie as `asked` says, unless an output is of a datatype that no list carries (FP16, BF16): then all
    are raw.
    """
    reply = pb.ModelInferResponse(model_name=request.model_name, model_version=version, id=request.id)
    outputs = answer.outputs
    raw = asked.raw or any(types[name] not in CONTENTS_FIELDS for name in outputs)
    for name, array in outputs.items():
        _add_output(reply, name, types[name], array, raw)
    return reply


def make_classified_response(
    request: pb.ModelInferRequest,
    version: str,
    types: Mapping[str, str],
    asked: Asked,
    answer: Answer,
    labels: Sequence[str],
    *,
    batched: bool,
) -> pb.ModelInferResponse:
    """As `make_infer_response`, with the outputs that are wanted so as texts of their highest values."""
    outputs, own = dict(answer.outputs), dict(types)
    for name, count in (asked.classes or {}).items():
        outputs[name] = classify(types[name], outputs[name], count, labels, batched=batched)
        own[name] = "BYTES"
    return make_infer_response(request, version, own, asked, replace(answer, outputs=outputs))


def _add_output(reply: pb.ModelInferResponse, name: str, datatype: str, array: Array, raw: bool) -> None:
    output = reply.outputs.add(name=name, datatype=datatype, shape=array.shape)
    if raw:
        reply.raw_output_contents.append(encode_raw(datatype, array))
    else:
        encode_contents(datatype, array, output.contents)


def make_metadata(name: str, graph: ServedGraph, versions: Sequence[str]) -> pb.ModelMetadataResponse:
    """A graph's tensors, batch axis included; `name` as the request wrote it, `versions` those that are ready."""
    signature = graph.loaded.signature
    return pb.ModelMetadataResponse(
        name=name,
        versions=versions,
        platform=PLATFORM,
        inputs=_make_tensors(signature.inputs),
        outputs=_make_tensors(signature.outputs),
    )


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
