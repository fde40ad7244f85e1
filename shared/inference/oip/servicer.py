"""The Open Inference Protocol over a repository: `inference.GRPCInferenceService`, as `tritonclient` speaks
it.

Here: the calls. Not here: the way of one request (`answering.py`), streams (`stream.py`), replies (`reply.py`,
`config.py`), calls that are not served (`not_offered.py`), mapping errors to statuses and deadlines (`shared.rpc`).

Where the protocol leaves a choice, Triton's is followed: ModelReady is false, not an error, for a model or
version that nobody knows; ServerReady is true once every model that was pulled answers; ModelStatistics
without a name lists all.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from sensorium.oip.v2 import inference_pb2 as pb

from shared.errors import InvalidArgument, NotFound, SensoriumError, Unavailable
from shared.inference.oip.answering import Answering
from shared.inference.oip.config import make_config
from shared.inference.oip.log_settings import change_log_settings, read_log_settings
from shared.inference.oip.message import InferRequest, get_request
from shared.inference.oip.not_offered import NotOffered
from shared.inference.oip.reply import make_index, make_metadata
from shared.inference.oip.shortcut import InferShortcut
from shared.inference.oip.stream import STRICT_HEADER, Stream, measure
from shared.inference.repository.repository import Repository
from shared.rpc.admission.admission import admit_message
from shared.rpc.caller import MODEL_HEADER
from shared.rpc.deadline import begin_message, current_deadline
from shared.rpc.gate import current_gate
from shared.rpc.metadata import EXTENSIONS, SERVER_NAME, read_version

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class InferenceServicer(NotOffered):
    """The protocol's calls for the models of one repository."""

    def __init__(
        self, repository: Repository, *, server_name: str = SERVER_NAME, server_version: str | None = None
    ) -> None:
        self._repository = repository
        self._server_name = server_name
        self._server_version = read_version() if server_version is None else server_version
        self._answering = Answering(repository)
        self.shortcut = InferShortcut(self._answering)

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        """True: it answers."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        """True once every model that was pulled answers, and there is one; what was unloaded on purpose is not missed."""
        return pb.ServerReadyResponse(ready=self._repository.complete)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        """Whether a model, or one graph of it, answers; false for what nobody knows."""
        try:
            key, _, graph = self._repository.split(request.name)
            if graph:
                self._repository.graph(request.name, request.version)
            else:
                self._repository.model(key, "", request.version)
        except (NotFound, Unavailable):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

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
        graph = self._repository.graph(request.name, request.version, field="name")
        return make_metadata(request.name, graph, self._repository.list_ready(graph.artifact.name))

    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:
        """How a graph is served."""
        graph = self._repository.graph(request.name, request.version, field="name")
        return make_config(request.name, graph, self._answering.face(graph).labels)

    async def ModelInfer(  # type: ignore[override]  # `message.py` has the reply written, where it is not yet
        self, message: InferRequest, context: Context
    ) -> pb.ModelInferResponse | bytes:
        """Runs a graph on the request's tensors."""
        return await self._answering.answer_encoded(message, current_deadline())

    async def ModelStreamInfer(
        self, messages: AsyncIterator[InferRequest], context: Context
    ) -> AsyncGenerator[pb.ModelStreamInferResponse, None]:
        """Runs graphs on the tensors of each message."""
        strict, authorised = False, ""
        for key, value in context.invocation_metadata() or ():
            if key == STRICT_HEADER:
                strict = value == "true"
            elif key == MODEL_HEADER:
                authorised = str(value)

        async def answer(message: InferRequest) -> pb.ModelInferResponse:
            if authorised:
                self._check_authorised(message, authorised)
            request = get_request(message)
            with admit_message(request.model_name, measure(message)):
                return await self._answering.answer(message, begin_message())

        stream = Stream(answer, current_deadline(), gate=current_gate(), strict=strict)
        async with aclosing(stream.serve(messages)) as replies:
            async for reply in replies:
                yield reply

    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, context: Context
    ) -> pb.ModelStatisticsResponse:
        """What was served since the start: of one graph, of all graphs of a model, or of all, by version."""
        prefix, wanted = "", None
        if request.name:
            key, prefix, one = self._repository.split(request.name)
            # Says what is wrong with a name or version that is not there.
            model = self._repository.model(key, "", request.version)
            wanted = (
                {self._repository.graph(request.name, request.version, field="name").name} if one else None
            )
            wanted = wanted or {graph.name for graph in model.graphs.values()}
        reply = pb.ModelStatisticsResponse()
        for graph in self._repository.graphs():
            version = graph.artifact.version
            if (wanted is None or graph.name in wanted) and request.version in ("", version):
                reply.model_stats.append(
                    graph.batcher.statistics.to_message(f"{prefix}{graph.name}", version)
                )
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
        version = _read_version(request.parameters, "version")
        await self._repository.load_model(_check_name(request.model_name), version)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        """Unloads a model."""
        # No model depends on another.
        version = _read_version(request.parameters, "version", "unload_dependents")
        await self._repository.unload_model(_check_name(request.model_name), version)
        return pb.RepositoryModelUnloadResponse()

    async def LogSettings(self, request: pb.LogSettingsRequest, context: Context) -> pb.LogSettingsResponse:
        """Changes what is sent, and tells all."""
        change_log_settings(request)
        return read_log_settings()

    def _check_authorised(self, message: InferRequest, authorised: str) -> None:
        request = get_request(message)
        if request.model_name == authorised:
            return
        if self._repository.split(request.model_name)[0] != self._repository.split(authorised)[0]:
            raise InvalidArgument(
                "model_name",
                expected=f"the model that the stream was opened for, {authorised}",
                got=request.model_name,
                fix="open a stream for each model",
            )


def _check_name(name: str) -> str:
    if not name:
        raise InvalidArgument("model_name", expected="the name of a model", got="none")
    return name


def _read_version(parameters: Mapping[str, pb.ModelRepositoryParameter], *known: str) -> str:
    """The version that is meant, "" for none; no other parameters than those that are known."""
    for key in sorted(parameters):
        if key not in known:
            raise _refuse_parameter(key, known)
    parameter = parameters.get("version")
    if parameter is None:
        return ""
    if (choice := parameter.WhichOneof("parameter_choice")) not in (None, "string_param"):
        raise InvalidArgument('parameters["version"]', expected="a text as string_param", got=f"a {choice}")
    return parameter.string_param


def _refuse_parameter(key: str, known: Iterable[str]) -> SensoriumError:
    field = f'parameters["{key}"]'
    if key == "config" or key.startswith("file:"):
        return InvalidArgument(
            field,
            expected="none: a model is served as its artifact says",
            got="an override",
            fix="write an artifact of another version, or set SENSORIUM_<SERVICE>_INFERENCE__MODELS",
        )
    return InvalidArgument(field, expected=f"only {', '.join(known)}", got="an unknown parameter")
