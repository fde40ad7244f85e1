"""The Open Inference Protocol over a repository: `inference.GRPCInferenceService`, as `tritonclient` speaks
it.

Here: the calls. Not here: the way of one request (`answering.py`), streams (`stream.py`), replies (`reply.py`,
`config.py`), calls that are not served (`not_offered.py`), mapping errors to statuses and deadlines (`shared.rpc`).

Where the protocol leaves a choice, Triton's is followed: ModelReady is false, not an error, for a model or
version that nobody knows; ServerReady is true once every model that was pulled answers; ModelStatistics
without a name lists all.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from sensorium.oip.v2 import inference_pb2 as pb

from shared.errors import InvalidArgument, NotFound, SensoriumError, Unavailable
from shared.inference.model import ServedGraph
from shared.inference.oip.answering import Answering
from shared.inference.oip.config import make_config
from shared.inference.oip.log_settings import change_log_settings, read_log_settings
from shared.inference.oip.message import InferMessage, InferRequest
from shared.inference.oip.not_offered import NotOffered
from shared.inference.oip.reply import make_index, make_metadata
from shared.inference.oip.stream import STRICT_HEADER, Stream, measure
from shared.inference.repository.repository import Repository
from shared.inference.repository.versions import READY
from shared.rpc.admission.admission import admit_message
from shared.rpc.deadline import begin_message, current_deadline
from shared.rpc.version import read_version

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

# Extensions that work here, by Triton's names. `schedule_policy` is the parameters `timeout` and `priority`.
EXTENSIONS = (
    "classification",
    "schedule_policy",
    "model_configuration",
    "statistics",
    "model_repository",
    "model_repository(unload_dependents)",
    "logging",
)
# Stamped by the gateway: the model that it authorised the call for, which in a stream is the first message's.
_MODEL_HEADER = "x-sensorium-model"


class InferenceServicer(NotOffered):
    """The protocol's calls for the models of one repository."""

    def __init__(
        self, repository: Repository, *, server_name: str = "sensorium", server_version: str | None = None
    ) -> None:
        self._repository = repository
        self._server_name = server_name
        self._server_version = read_version() if server_version is None else server_version
        self._answering = Answering(repository)

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
        graph = self._repository.graph(request.name, request.version, field="name")
        return make_config(request.name, graph, self._answering.face(graph).labels)

    async def ModelInfer(self, message: InferRequest, context: Context) -> pb.ModelInferResponse:
        """Runs a graph on the request's tensors."""
        return await self._answering.answer(message, current_deadline())

    async def ModelStreamInfer(
        self, messages: AsyncIterator[InferRequest], context: Context
    ) -> AsyncGenerator[pb.ModelStreamInferResponse, None]:
        """Runs graphs on the tensors of each message."""
        strict, authorised = False, ""
        for key, value in context.invocation_metadata() or ():
            if key == STRICT_HEADER:
                strict = value == "true"
            elif key == _MODEL_HEADER:
                authorised = str(value)

        async def answer(message: InferRequest) -> pb.ModelInferResponse:
            if authorised:
                self._check_authorised(message, authorised)
            request = message.request if isinstance(message, InferMessage) else message
            with admit_message(request.model_name, measure(message)):
                return await self._answering.answer(message, begin_message())

        async with aclosing(Stream(answer, strict=strict).serve(messages)) as replies:
            async for reply in replies:
                yield reply

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

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: Context
    ) -> pb.RepositoryModelLoadResponse:
        """Loads a model and answers when it is ready."""
        await self._repository.load_model(self._strip(request.model_name), _read_version(request))
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        """Unloads a model."""
        for key in request.parameters:
            if key != "unload_dependents":
                raise _refuse_parameter(key, "unload_dependents")
        await self._repository.unload_model(self._strip(request.model_name))
        return pb.RepositoryModelUnloadResponse()

    async def LogSettings(self, request: pb.LogSettingsRequest, context: Context) -> pb.LogSettingsResponse:
        """Changes what is sent, and tells all."""
        change_log_settings(request)
        return read_log_settings()

    def _strip(self, name: str) -> str:
        """A model's own name, without its service."""
        bare = name.removeprefix(f"{self._repository.service}/")
        if not bare:
            raise InvalidArgument("model_name", expected="the name of a model", got="none")
        return bare

    def _check_authorised(self, message: InferRequest, authorised: str) -> None:
        request = message.request if isinstance(message, InferMessage) else message
        if request.model_name == authorised:
            return
        if self._repository.split(request.model_name)[0] != self._repository.split(authorised)[0]:
            raise InvalidArgument(
                "model_name",
                expected=f"the model that the stream was opened for, {authorised}",
                got=request.model_name,
                fix="open a stream for each model",
            )

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


def _read_version(request: pb.RepositoryModelLoadRequest) -> str:
    """The version that is to be loaded, "" for the default one."""
    for key in request.parameters:
        if key != "version":
            raise _refuse_parameter(key, "version")
    parameter = request.parameters.get("version")
    return "" if parameter is None else parameter.string_param


def _refuse_parameter(key: str, known: str) -> SensoriumError:
    if key == "config" or key.startswith("file:"):
        return InvalidArgument(
            f'parameters["{key}"]',
            expected="none: models are served as their artifacts say",
            got="an override",
            fix="write an artifact of another version, or set SENSORIUM_<SERVICE>_INFERENCE__MODELS",
        )
    return InvalidArgument(f'parameters["{key}"]', expected=f"only {known}", got="an unknown parameter")
