"""The client for asyncio. What a call means is in `sensorium.calls`, shared with `sensorium.client`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar, overload

import grpc
import grpc.aio

from sensorium.aio_stream import stream_calls, stream_messages
from sensorium.calls import inference, mesh, nlp, speech, vision
from sensorium.calls.plan import Plan, Rpc, as_list, unwrap
from sensorium.calls.stream import AT_ONCE, Settled, check_at_once, streamed
from sensorium.connection import Priority, channel_options, connection
from sensorium.errors import from_rpc_error
from sensorium.inputs import Audio, Image
from sensorium.results import (
    ImageEmbedding,
    ImageExplanation,
    ImageFaces,
    ImageLabels,
    ImageObjects,
    ImageText,
    Limits,
    ModelInfo,
    ReplicaInfo,
    Result,
    SpeakerEmbedding,
    SpeechSegments,
    SpokenCommand,
    TextEmbedding,
    TextExplanation,
    TextLabels,
    TextLanguages,
    Transcript,
)
from sensorium.tensor import Inference, TensorLike

ImageT = TypeVar("ImageT", bound=Image)
AudioT = TypeVar("AudioT", bound=Audio)
T = TypeVar("T")
R = TypeVar("R", bound=Result)

# Calls at once for a list that needs several: enough to use a few replicas, too few to crowd others out.
_AT_ONCE = 4


class AsyncClient:
    """Calls a mesh from asyncio: the methods of `sensorium.client.Client`, to be awaited.

    Use it in one event loop only; the connection is opened by the first call.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | None = None,
        secure: bool | None = None,
        root_certificates: bytes | None = None,
        timeout_s: float = 60.0,
        priority: Priority = "interactive",
        retries: bool = True,
    ) -> None:
        self._connection = connection(address, token, secure=secure, root_certificates=root_certificates)
        self._timeout_s = timeout_s
        self._priority = priority
        self._options = channel_options(retries=retries)
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[str, Any] = {}

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls that run are cancelled."""
        channel, self._channel = self._channel, None
        self._methods.clear()
        if channel is not None:
            await channel.close(None)

    @overload
    async def classify_image(
        self,
        image: Image,
        *,
        model: str = ...,
        top_k: int = ...,
        min_score: float = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> ImageLabels: ...
    @overload
    async def classify_image(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = ...,
        top_k: int = ...,
        min_score: float = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageLabels]: ...
    async def classify_image(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = "",
        top_k: int = 5,
        min_score: float = 0.0,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageLabels | list[ImageLabels]:
        """See `Client.classify_image`."""
        inputs, many = as_list(image)
        plan = vision.classify_image(inputs, model=model, top_k=top_k, min_score=min_score)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def detect_objects(
        self,
        image: Image,
        *,
        model: str = ...,
        min_score: float | None = ...,
        max_results: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> ImageObjects: ...
    @overload
    async def detect_objects(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = ...,
        min_score: float | None = ...,
        max_results: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageObjects]: ...
    async def detect_objects(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = "",
        min_score: float | None = None,
        max_results: int = 100,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageObjects | list[ImageObjects]:
        """See `Client.detect_objects`."""
        inputs, many = as_list(image)
        plan = vision.detect_objects(inputs, model=model, min_score=min_score, max_results=max_results)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def detect_faces(
        self,
        image: Image,
        *,
        model: str = ...,
        min_score: float | None = ...,
        max_results: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> ImageFaces: ...
    @overload
    async def detect_faces(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = ...,
        min_score: float | None = ...,
        max_results: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageFaces]: ...
    async def detect_faces(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = "",
        min_score: float | None = None,
        max_results: int = 100,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageFaces | list[ImageFaces]:
        """See `Client.detect_faces`."""
        inputs, many = as_list(image)
        plan = vision.detect_faces(inputs, model=model, min_score=min_score, max_results=max_results)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def read_text(
        self,
        image: Image,
        *,
        model: str = ...,
        min_score: float | None = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> ImageText: ...
    @overload
    async def read_text(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = ...,
        min_score: float | None = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageText]: ...
    async def read_text(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = "",
        min_score: float | None = None,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageText | list[ImageText]:
        """See `Client.read_text`."""
        inputs, many = as_list(image)
        plan = vision.read_text(inputs, model=model, min_score=min_score)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def embed_image(
        self,
        image: Image,
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> ImageEmbedding: ...
    @overload
    async def embed_image(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageEmbedding]: ...
    async def embed_image(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageEmbedding | list[ImageEmbedding]:
        """See `Client.embed_image`."""
        inputs, many = as_list(image)
        plan = vision.embed_image(inputs, model=model)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def embed_text(
        self, text: str, *, model: str = ..., timeout_s: float | None = ..., priority: Priority | None = ...
    ) -> TextEmbedding: ...
    @overload
    async def embed_text(
        self,
        text: list[str] | tuple[str, ...],
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[TextEmbedding]: ...
    async def embed_text(
        self,
        text: str | list[str] | tuple[str, ...],
        *,
        model: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> TextEmbedding | list[TextEmbedding]:
        """See `Client.embed_text`."""
        inputs, many = as_list(text)
        plan = nlp.embed_text(inputs, model=model)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def classify_text(
        self,
        text: str,
        labels: Sequence[str] | None = ...,
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> TextLabels: ...
    @overload
    async def classify_text(
        self,
        text: list[str] | tuple[str, ...],
        labels: Sequence[str] | None = ...,
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[TextLabels]: ...
    async def classify_text(
        self,
        text: str | list[str] | tuple[str, ...],
        labels: Sequence[str] | None = None,
        *,
        model: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> TextLabels | list[TextLabels]:
        """See `Client.classify_text`."""
        inputs, many = as_list(text)
        plan = nlp.classify_text(inputs, labels, model=model)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def detect_language(
        self,
        text: str,
        *,
        model: str = ...,
        max_results: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> TextLanguages: ...
    @overload
    async def detect_language(
        self,
        text: list[str] | tuple[str, ...],
        *,
        model: str = ...,
        max_results: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[TextLanguages]: ...
    async def detect_language(
        self,
        text: str | list[str] | tuple[str, ...],
        *,
        model: str = "",
        max_results: int = 3,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> TextLanguages | list[TextLanguages]:
        """See `Client.detect_language`."""
        inputs, many = as_list(text)
        plan = nlp.detect_language(inputs, model=model, max_results=max_results)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def explain_text(
        self,
        text: str,
        labels: Sequence[str] | None = ...,
        *,
        label: str = ...,
        model: str = ...,
        max_runs: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> TextExplanation: ...
    @overload
    async def explain_text(
        self,
        text: list[str] | tuple[str, ...],
        labels: Sequence[str] | None = ...,
        *,
        label: str = ...,
        model: str = ...,
        max_runs: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[TextExplanation]: ...
    async def explain_text(
        self,
        text: str | list[str] | tuple[str, ...],
        labels: Sequence[str] | None = None,
        *,
        label: str = "",
        model: str = "",
        max_runs: int = 0,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> TextExplanation | list[TextExplanation]:
        """See `Client.explain_text`."""
        inputs, many = as_list(text)
        plan = nlp.explain_text(inputs, labels, label=label, model=model, max_runs=max_runs)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def explain_image(
        self,
        image: Image,
        *,
        label: str = ...,
        model: str = ...,
        max_runs: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> ImageExplanation: ...
    @overload
    async def explain_image(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        label: str = ...,
        model: str = ...,
        max_runs: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageExplanation]: ...
    async def explain_image(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        label: str = "",
        model: str = "",
        max_runs: int = 0,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageExplanation | list[ImageExplanation]:
        """See `Client.explain_image`."""
        inputs, many = as_list(image)
        plan = vision.explain_image(inputs, label=label, model=model, max_runs=max_runs)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def recognize_command(
        self,
        audio: Audio,
        *,
        model: str = ...,
        max_results: int = ...,
        language: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> SpokenCommand: ...
    @overload
    async def recognize_command(
        self,
        audio: list[AudioT],
        *,
        model: str = ...,
        max_results: int = ...,
        language: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[SpokenCommand]: ...
    async def recognize_command(
        self,
        audio: Audio | list[AudioT],
        *,
        model: str = "",
        max_results: int = 5,
        language: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> SpokenCommand | list[SpokenCommand]:
        """See `Client.recognize_command`."""
        inputs, many = as_list(audio)
        plan = speech.recognize_command(inputs, model=model, max_results=max_results, language=language)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def transcribe(
        self,
        audio: Audio,
        *,
        model: str = ...,
        language: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> Transcript: ...
    @overload
    async def transcribe(
        self,
        audio: list[AudioT],
        *,
        model: str = ...,
        language: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[Transcript]: ...
    async def transcribe(
        self,
        audio: Audio | list[AudioT],
        *,
        model: str = "",
        language: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> Transcript | list[Transcript]:
        """See `Client.transcribe`."""
        inputs, many = as_list(audio)
        plan = speech.transcribe(inputs, model=model, language=language)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def detect_speech(
        self,
        audio: Audio,
        *,
        model: str = ...,
        threshold: float | None = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> SpeechSegments: ...
    @overload
    async def detect_speech(
        self,
        audio: list[AudioT],
        *,
        model: str = ...,
        threshold: float | None = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[SpeechSegments]: ...
    async def detect_speech(
        self,
        audio: Audio | list[AudioT],
        *,
        model: str = "",
        threshold: float | None = None,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> SpeechSegments | list[SpeechSegments]:
        """See `Client.detect_speech`."""
        inputs, many = as_list(audio)
        plan = speech.detect_speech(inputs, model=model, threshold=threshold)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    @overload
    async def embed_speaker(
        self,
        audio: Audio,
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> SpeakerEmbedding: ...
    @overload
    async def embed_speaker(
        self,
        audio: list[AudioT],
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[SpeakerEmbedding]: ...
    async def embed_speaker(
        self,
        audio: Audio | list[AudioT],
        *,
        model: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> SpeakerEmbedding | list[SpeakerEmbedding]:
        """See `Client.embed_speaker`."""
        inputs, many = as_list(audio)
        plan = speech.embed_speaker(inputs, model=model)
        return unwrap(await self._run(plan, timeout_s, priority), many=many)

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, TensorLike],
        outputs: Sequence[str] | None = None,
        *,
        version: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> Inference:
        """See `Client.infer`."""
        plan = inference.infer(model, inputs, outputs, version=version)
        return await self._run(plan, timeout_s, priority)

    def stream(
        self,
        call: Callable[..., Coroutine[Any, Any, R]],
        inputs: AsyncIterable[Any] | Iterable[Any],
        *,
        at_once: int = AT_ONCE,
        **options: Any,
    ) -> AsyncGenerator[R, None]:
        """See `Client.stream`. `inputs` may be asynchronous; a plain one is read in the event loop, and should not block.

        Iterate it within `async with contextlib.aclosing(…)` where you may leave before its end.
        """
        asked = streamed(call, options)

        async def ask(given: Any) -> Any:
            plan = asked.plan(given)
            if isinstance(plan, Settled):
                return plan.wait()
            (result,) = await self._run(plan, asked.timeout_s, asked.priority)
            return result

        return stream_calls(inputs, ask, check_at_once(at_once))

    def stream_infer(
        self,
        model: str,
        inputs: AsyncIterable[Mapping[str, TensorLike]] | Iterable[Mapping[str, TensorLike]],
        outputs: Sequence[str] | None = None,
        *,
        version: str = "",
        at_once: int = AT_ONCE,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> AsyncGenerator[Inference, None]:
        """See `Client.stream_infer`, and `stream` for what `inputs` may be."""
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        metadata = self._connection.metadata(priority or self._priority)
        make = inference.message_maker(model, outputs, version=version, timeout_s=timeout_s)
        return stream_messages(
            inputs,
            lambda: self._stream_method(inference.stream_rpc())(metadata=metadata),
            make,
            inference.parse_stream_reply,
            lambda error: from_rpc_error(error, address=self._connection.target),
            check_at_once(at_once),
        )

    async def list_models(self, service: str = "", *, timeout_s: float | None = None) -> list[ModelInfo]:
        """See `Client.list_models`."""
        return await self._run(mesh.list_models(service), timeout_s)

    async def load_model(self, name: str, version: str = "", *, timeout_s: float | None = None) -> None:
        """See `Client.load_model`."""
        await self._run(mesh.load_model(name, version), timeout_s)

    async def unload_model(self, name: str, version: str = "", *, timeout_s: float | None = None) -> None:
        """See `Client.unload_model`."""
        await self._run(mesh.unload_model(name, version), timeout_s)

    async def list_replicas(self, service: str = "", *, timeout_s: float | None = None) -> list[ReplicaInfo]:
        """See `Client.list_replicas`."""
        return await self._run(mesh.list_replicas(service), timeout_s)

    async def limits(self, *, timeout_s: float | None = None) -> list[Limits]:
        """See `Client.limits`."""
        return await self._run(mesh.get_limits(), timeout_s)

    async def _run(self, plan: Plan[T], timeout_s: float | None, priority: Priority | None = None) -> T:
        method = self._method(plan.rpc)
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        metadata = self._connection.metadata(priority or self._priority)
        slots = asyncio.Semaphore(_AT_ONCE)

        async def ask(message: Any, offset: int) -> Any:
            async with slots:
                try:
                    return await method(message, timeout=timeout_s, metadata=metadata)
                except grpc.aio.AioRpcError as error:
                    described = from_rpc_error(error, address=self._connection.target, offset=offset)
                    return plan.settle(described, cause=error)

        calls = [asyncio.ensure_future(ask(request.message, request.offset)) for request in plan.requests]
        try:
            replies = await asyncio.gather(*calls)
        finally:
            # Of a failed or cancelled list, nothing may go on in the background.
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        return plan.finish(replies)

    def _method(self, rpc: Rpc) -> Any:
        if rpc.path not in self._methods:
            self._methods[rpc.path] = self._open().unary_unary(
                rpc.path,
                request_serializer=rpc.request.SerializeToString,
                response_deserializer=rpc.response.FromString,
            )
        return self._methods[rpc.path]

    def _stream_method(self, rpc: Rpc) -> Any:
        return self._open().stream_stream(
            rpc.path,
            request_serializer=rpc.request.SerializeToString,
            response_deserializer=rpc.response.FromString,
        )

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            target = self._connection.target
            self._channel = (
                grpc.aio.secure_channel(target, self._connection.credentials(), self._options)
                if self._connection.secure
                else grpc.aio.insecure_channel(target, self._options)
            )
        return self._channel
