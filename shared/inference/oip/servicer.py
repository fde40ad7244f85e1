"""The Open Inference Protocol over a repository: `inference.GRPCInferenceService`, as `tritonclient` speaks
it.

Here: the calls. Not here: reading requests (`request.py`), making replies (`reply.py`), mapping
errors to statuses and deadlines (`shared.rpc`).

Where the protocol leaves a choice, Triton's is followed: ModelReady is false, not an error, for a model or
version that nobody knows; ServerReady is true once every model that was pulled answers; ModelStatistics
without a name lists all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import grpc
from sensorium.oip.v2 import inference_pb2 as pb
from sensorium.oip.v2 import inference_pb2_grpc as pb_grpc

from shared.errors import NotFound, Unavailable
from shared.inference.batching.waiting import Answer
from shared.inference.executor import run_in_executor
from shared.inference.model import ServedGraph
from shared.inference.oip.message import InferMessage, InferRequest
from shared.inference.oip.reply import make_config, make_index, make_infer_response, make_metadata
from shared.inference.oip.request import Asked, RequestReader
from shared.inference.repository.repository import Repository
from shared.inference.repository.versions import READY
from shared.rpc.deadline import current_deadline
from shared.rpc.version import read_version

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

# Extensions that work here, by Triton's names; of the model repository only the index is served.
EXTENSIONS = ("model_configuration", "statistics", "model_repository(index only)")
# Typed lists and BYTES become arrays element by element, at some 30 ns each: from this size on (about 1 ms)
# that is done off the event loop. Raw numbers are not copied at all.
_SLOW_BYTES = 128 * 1024


class InferenceServicer(pb_grpc.GRPCInferenceServiceServicer):
    """The protocol's calls for the models of one repository."""

    def __init__(
        self, repository: Repository, *, server_name: str = "sensorium", server_version: str | None = None
    ) -> None:
        self._repository = repository
        self._server_name = server_name
        self._server_version = read_version() if server_version is None else server_version
        self._readers: dict[str, tuple[ServedGraph, RequestReader]] = {}

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        """True: it answers."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        """True once every model that was pulled answers, and there is one."""
        pulled: dict[str, bool] = {}
        for version in self._repository.versions:
            if version.folder is not None:
                pulled[version.name] = pulled.get(version.name, False) or version.state == READY
        return pb.ServerReadyResponse(ready=bool(pulled) and all(pulled.values()))

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        """Whether a model, or one graph of it, answers; false for what nobody knows."""
        try:
            graphs = list(self._find_graphs(request.name, request.version))
        except (NotFound, Unavailable):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=bool(graphs))

    async def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: Context
    ) -> pb.ServerMetadataResponse:
        """Name, version and extensions."""
        return pb.ServerMetadataResponse(
            name=self._server_name, version=self._server_version, extensions=EXTENSIONS
        )

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        """A graph's tensors."""
        return make_metadata(
            request.name, self._repository.graph(request.name, request.version, field="name")
        )

    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:
        """How a graph is served."""
        return make_config(request.name, self._repository.graph(request.name, request.version, field="name"))

    async def ModelInfer(self, message: InferRequest, context: Context) -> pb.ModelInferResponse:
        """Runs a graph on the request's tensors."""
        raw: Sequence[bytes | memoryview]
        if isinstance(message, InferMessage):
            request, raw = message.request, message.raw
        else:
            request, raw = message, message.raw_input_contents
        graph = self._repository.graph(request.model_name, request.model_version)
        reader = self._get_reader(graph)
        asked = reader.read_plain(request, raw)
        if asked is None:
            # Every look at a bytes field of a message makes a copy of it: taken out once.
            raw = list(raw)
            if request.ByteSize() + sum(map(len, raw)) > _SLOW_BYTES:
                asked = await run_in_executor(reader.read, request, raw)
            else:
                asked = reader.read(request, raw)
        answer = await graph.batcher.submit(asked.inputs, asked.outputs, current_deadline())
        reply = request, graph.artifact.version, reader.output_types, asked, answer
        if _is_slow(reader.output_types, asked, answer):
            return await run_in_executor(make_infer_response, *reply)
        return make_infer_response(*reply)

    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, context: Context
    ) -> pb.ModelStatisticsResponse:
        """What was served since the start: of one graph, of all graphs of a model, or of all."""
        reply = pb.ModelStatisticsResponse()
        if not request.name:
            for graph in self._repository.graphs():
                if request.version in ("", graph.artifact.version):
                    reply.model_stats.append(_count(graph, graph.name))
            return reply
        _, prefix, _ = self._repository.split(request.name)
        for graph in self._find_graphs(request.name, request.version):
            reply.model_stats.append(_count(graph, f"{prefix}{graph.name}"))
        return reply

    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, context: Context
    ) -> pb.RepositoryIndexResponse:
        """Every model and its state."""
        return make_index(self._repository.versions, ready_only=request.ready)

    def _get_reader(self, graph: ServedGraph) -> RequestReader:
        """The reader of a graph, made once."""
        found = self._readers.get(graph.name)
        # Another version of a model has the same name and maybe another signature.
        if found is None or found[0] is not graph:
            found = self._readers[graph.name] = (graph, RequestReader(graph.loaded.signature, graph.name))
        return found[1]

    def _find_graphs(self, name: str, version: str) -> Iterator[ServedGraph]:
        """The graph of that name, or all graphs of the model of that name.

        Raises:
            NotFound, Unavailable: as `Repository.graph`.
        """
        key, _, graph = self._repository.split(name)
        if graph:
            yield self._repository.graph(name, version)
            return
        model = self._repository.model(key, "")
        if version not in ("", model.artifact.version):
            raise NotFound(f"version of model {key}", version, known=[model.artifact.version])
        yield from model.graphs.values()


def _count(graph: ServedGraph, name: str) -> pb.ModelStatistics:
    return graph.batcher.statistics.to_message(name, graph.artifact.version)


def _is_slow(types: Mapping[str, str], asked: Asked, answer: Answer) -> bool:
    """Whether a reply is made element by element, of so many that the event loop should not do it."""
    return any(
        array.nbytes > _SLOW_BYTES and not (asked.raw and types[name] != "BYTES")
        for name, array in answer.outputs.items()
    )
