"""The client for ordinary code. For asyncio there is `sensorium.aio`; what a call means is in `sensorium.calls`."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar, overload

import grpc

from sensorium.calls import inference, mesh, nlp, speech, vision
from sensorium.calls.plan import Plan, Rpc, as_list, unwrap
from sensorium.calls.stream import AT_ONCE, Settled, check_at_once, streamed
from sensorium.connection import Priority, connection
from sensorium.errors import SensoriumError, from_rpc_error
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
from sensorium.stream import Pending, stream_calls, stream_messages
from sensorium.tensor import Inference, TensorLike

ImageT = TypeVar("ImageT", bound=Image)
AudioT = TypeVar("AudioT", bound=Audio)
T = TypeVar("T")
R = TypeVar("R", bound=Result)

# Calls at once for a list that needs several: enough to use a few replicas, too few to crowd others out.
_AT_ONCE = 4


class Client:
    """Calls a mesh. Open one and keep it: it holds one connection, and threads may share it.

    An input may be one (image, text, clip) or a list of them. One gives its result, or raises its error. A list
    gives a list in the same order, in as many calls as it needs; an input that is refused has its `error` set there,
    and only what concerns the call as a whole is raised. What an image or a clip may be: see `sensorium.inputs`.

    address, token, secure, root_certificates: see `sensorium.connection`; by default the environment says.
    timeout_s: of each call to the mesh; every method takes one of its own. priority: likewise; `batch` lets those go first
    who wait for their answer. retries: a call without side effects that the mesh could not take is tried again, up to three
    times and within `timeout_s`, when the mesh says; False leaves that to you.
    Every method raises a `sensorium.errors.SensoriumError`.
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
        self._channel = self._connection.open_channel(retries=retries)
        self._methods: dict[str, Any] = {}

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls that run are cancelled."""
        self._channel.close()

    @overload
    def classify_image(
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
    def classify_image(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = ...,
        top_k: int = ...,
        min_score: float = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageLabels]: ...
    def classify_image(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = "",
        top_k: int = 5,
        min_score: float = 0.0,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageLabels | list[ImageLabels]:
        """Names what an image shows: the `top_k` best labels of probability `min_score` or more."""
        inputs, many = as_list(image)
        plan = vision.classify_image(inputs, model=model, top_k=top_k, min_score=min_score)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def detect_objects(
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
    def detect_objects(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = ...,
        min_score: float | None = ...,
        max_results: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageObjects]: ...
    def detect_objects(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = "",
        min_score: float | None = None,
        max_results: int = 100,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageObjects | list[ImageObjects]:
        """Finds objects and says where they are. min_score: None means the model's own threshold."""
        inputs, many = as_list(image)
        plan = vision.detect_objects(inputs, model=model, min_score=min_score, max_results=max_results)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def detect_faces(
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
    def detect_faces(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = ...,
        min_score: float | None = ...,
        max_results: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageFaces]: ...
    def detect_faces(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = "",
        min_score: float | None = None,
        max_results: int = 100,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageFaces | list[ImageFaces]:
        """Finds faces and five landmarks of each; it identifies nobody."""
        inputs, many = as_list(image)
        plan = vision.detect_faces(inputs, model=model, min_score=min_score, max_results=max_results)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def read_text(
        self,
        image: Image,
        *,
        model: str = ...,
        min_score: float | None = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> ImageText: ...
    @overload
    def read_text(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = ...,
        min_score: float | None = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageText]: ...
    def read_text(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = "",
        min_score: float | None = None,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageText | list[ImageText]:
        """Reads printed text, line by line."""
        inputs, many = as_list(image)
        plan = vision.read_text(inputs, model=model, min_score=min_score)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def embed_image(
        self,
        image: Image,
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> ImageEmbedding: ...
    @overload
    def embed_image(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageEmbedding]: ...
    def embed_image(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        model: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageEmbedding | list[ImageEmbedding]:
        """Turns an image into a vector; similar images have a high `similarity`."""
        inputs, many = as_list(image)
        plan = vision.embed_image(inputs, model=model)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def embed_text(
        self, text: str, *, model: str = ..., timeout_s: float | None = ..., priority: Priority | None = ...
    ) -> TextEmbedding: ...
    @overload
    def embed_text(
        self,
        text: list[str] | tuple[str, ...],
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[TextEmbedding]: ...
    def embed_text(
        self,
        text: str | list[str] | tuple[str, ...],
        *,
        model: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> TextEmbedding | list[TextEmbedding]:
        """Turns a text into a vector; texts of similar meaning have a high `similarity`."""
        inputs, many = as_list(text)
        plan = nlp.embed_text(inputs, model=model)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def classify_text(
        self,
        text: str,
        labels: Sequence[str] | None = ...,
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> TextLabels: ...
    @overload
    def classify_text(
        self,
        text: list[str] | tuple[str, ...],
        labels: Sequence[str] | None = ...,
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[TextLabels]: ...
    def classify_text(
        self,
        text: str | list[str] | tuple[str, ...],
        labels: Sequence[str] | None = None,
        *,
        model: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> TextLabels | list[TextLabels]:
        """Says which label fits a text best: of your `labels` (2 to 64, best as short phrases), or, without any, of those
        that the model was trained on; the default one knows `negative` and `positive`.
        """
        inputs, many = as_list(text)
        plan = nlp.classify_text(inputs, labels, model=model)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def detect_language(
        self,
        text: str,
        *,
        model: str = ...,
        max_results: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> TextLanguages: ...
    @overload
    def detect_language(
        self,
        text: list[str] | tuple[str, ...],
        *,
        model: str = ...,
        max_results: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[TextLanguages]: ...
    def detect_language(
        self,
        text: str | list[str] | tuple[str, ...],
        *,
        model: str = "",
        max_results: int = 3,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> TextLanguages | list[TextLanguages]:
        """Says in which language a text is written: the `max_results` most probable ones."""
        inputs, many = as_list(text)
        plan = nlp.detect_language(inputs, model=model, max_results=max_results)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def explain_text(
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
    def explain_text(
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
    def explain_text(
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
        """Says which words of a text speak for `label` (default: its best one); `labels` and `model` as for `classify_text`.

        The model is run some 128 times, or at most `max_runs` times, behind other calls. Raises DeadlineExceeded at once
        where that cannot be done in time.
        """
        inputs, many = as_list(text)
        plan = nlp.explain_text(inputs, labels, label=label, model=model, max_runs=max_runs)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def explain_image(
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
    def explain_image(
        self,
        image: list[ImageT] | tuple[ImageT, ...],
        *,
        label: str = ...,
        model: str = ...,
        max_runs: int = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[ImageExplanation]: ...
    def explain_image(
        self,
        image: Image | list[ImageT] | tuple[ImageT, ...],
        *,
        label: str = "",
        model: str = "",
        max_runs: int = 0,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> ImageExplanation | list[ImageExplanation]:
        """Says which parts of an image speak for `label` (default: its best one), for a `model` of `classify_image`.

        The model is run some 128 times, or at most `max_runs` times, behind other calls. Raises DeadlineExceeded at once
        where that cannot be done in time.
        """
        inputs, many = as_list(image)
        plan = vision.explain_image(inputs, label=label, model=model, max_runs=max_runs)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def recognize_command(
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
    def recognize_command(
        self,
        audio: list[AudioT],
        *,
        model: str = ...,
        max_results: int = ...,
        language: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[SpokenCommand]: ...
    def recognize_command(
        self,
        audio: Audio | list[AudioT],
        *,
        model: str = "",
        max_results: int = 5,
        language: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> SpokenCommand | list[SpokenCommand]:
        """Says which of the model's commands is spoken in a short clip: the `max_results` most probable ones.

        With a `language` (BCP-47) only its commands are answered, which makes right answers much likelier.
        """
        inputs, many = as_list(audio)
        plan = speech.recognize_command(inputs, model=model, max_results=max_results, language=language)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def transcribe(
        self,
        audio: Audio,
        *,
        model: str = ...,
        language: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> Transcript: ...
    @overload
    def transcribe(
        self,
        audio: list[AudioT],
        *,
        model: str = ...,
        language: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[Transcript]: ...
    def transcribe(
        self,
        audio: Audio | list[AudioT],
        *,
        model: str = "",
        language: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> Transcript | list[Transcript]:
        """Writes down what is said. language: a BCP-47 tag; empty means the model's only one."""
        inputs, many = as_list(audio)
        plan = speech.transcribe(inputs, model=model, language=language)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def detect_speech(
        self,
        audio: Audio,
        *,
        model: str = ...,
        threshold: float | None = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> SpeechSegments: ...
    @overload
    def detect_speech(
        self,
        audio: list[AudioT],
        *,
        model: str = ...,
        threshold: float | None = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[SpeechSegments]: ...
    def detect_speech(
        self,
        audio: Audio | list[AudioT],
        *,
        model: str = "",
        threshold: float | None = None,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> SpeechSegments | list[SpeechSegments]:
        """Says when somebody speaks. threshold: probability, above 0 and below 1; None means the model's own."""
        inputs, many = as_list(audio)
        plan = speech.detect_speech(inputs, model=model, threshold=threshold)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    @overload
    def embed_speaker(
        self,
        audio: Audio,
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> SpeakerEmbedding: ...
    @overload
    def embed_speaker(
        self,
        audio: list[AudioT],
        *,
        model: str = ...,
        timeout_s: float | None = ...,
        priority: Priority | None = ...,
    ) -> list[SpeakerEmbedding]: ...
    def embed_speaker(
        self,
        audio: Audio | list[AudioT],
        *,
        model: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> SpeakerEmbedding | list[SpeakerEmbedding]:
        """Turns a voice into a vector; clips of one speaker have a high `similarity`."""
        inputs, many = as_list(audio)
        plan = speech.embed_speaker(inputs, model=model)
        return unwrap(self._run(plan, timeout_s, priority), many=many)

    def infer(
        self,
        model: str,
        inputs: Mapping[str, TensorLike],
        outputs: Sequence[str] | None = None,
        *,
        version: str = "",
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> Inference:
        """Runs a model on tensors as its graph has them: arrays of numpy or `sensorium.Tensor` by name, with the batch axis.

        model: `<model>`, `<service>/<model>`, or `<model>.<graph>`. outputs: names of the tensors that are wanted; None
        means all. `answer["logits"]` is an array. `sensorium models show` lists a model's tensors.
        """
        plan = inference.infer(model, inputs, outputs, version=version)
        return self._run(plan, timeout_s, priority)

    def stream(
        self,
        call: Callable[..., R],
        inputs: Iterable[Any],
        *,
        at_once: int = AT_ONCE,
        **options: Any,
    ) -> Generator[R, None, None]:
        """Results of a call for as many inputs as come, in their order, each as soon as it and those before it are there:

            for result in client.stream(client.classify_image, paths, top_k=1): ...

        call: a method of this client that takes an image, a text or a clip. options: what else it takes. at_once: inputs
        that are under way; the next one is taken when a result is. An input that fails has its `error` set in its result,
        and the stream goes on; what would fail them all (no token, unknown model, a mesh that is gone) is raised, and so is
        what `inputs` raises. `inputs` is read in a thread of its own. Closing the stream cancels what is under way.
        """
        asked = streamed(call, options)
        priority: Priority = asked.priority or self._priority

        def start(given: Any) -> Pending:
            plan = asked.plan(given)
            if isinstance(plan, Settled):
                return plan
            (request,) = plan.requests
            call = self._method(plan.rpc).future(
                request.message,
                timeout=self._timeout_s if asked.timeout_s is None else asked.timeout_s,
                metadata=self._connection.metadata(priority),
            )
            return _Answer(plan, call, self._wait)

        return stream_calls(inputs, start, check_at_once(at_once))

    def stream_infer(
        self,
        model: str,
        inputs: Iterable[Mapping[str, TensorLike]],
        outputs: Sequence[str] | None = None,
        *,
        version: str = "",
        at_once: int = AT_ONCE,
        timeout_s: float | None = None,
        priority: Priority | None = None,
    ) -> Generator[Inference, None, None]:
        """`infer` for as many inputs as come, over one stream to one replica; answers in order, as `stream` has them.

        timeout_s: of each message, from when it arrives; the stream itself may last as long as the mesh lets it.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        metadata = self._connection.metadata(priority or self._priority)
        make = inference.message_maker(model, outputs, version=version, timeout_s=timeout_s)
        return stream_messages(
            inputs,
            lambda messages: self._stream_method(inference.stream_rpc())(messages, metadata=metadata),
            make,
            inference.parse_stream_reply,
            lambda error: self._describe(error, 0),
            check_at_once(at_once),
        )

    def list_models(self, service: str = "", *, timeout_s: float | None = None) -> list[ModelInfo]:
        """Every model that any replica knows; `service` narrows it to one service's."""
        return self._run(mesh.list_models(service), timeout_s)

    def load_model(self, name: str, version: str = "", *, timeout_s: float | None = None) -> None:
        """Loads what lies on the replicas' disks of a model, or one version of it; returns when calls reach it.

        name: `<service>/<model>`. Needs a token with the scope `admin`. Loading takes seconds: give it a minute.

        Raises FailedPrecondition with the reason if it was refused; what served before serves on.
        """
        self._run(mesh.load_model(name, version), timeout_s)

    def unload_model(self, name: str, version: str = "", *, timeout_s: float | None = None) -> None:
        """Unloads a model, or one version of it, on all replicas until it is loaded again. Needs the scope `admin`."""
        self._run(mesh.unload_model(name, version), timeout_s)

    def list_replicas(self, service: str = "", *, timeout_s: float | None = None) -> list[ReplicaInfo]:
        """The replicas that the gateway knows, reachable or not."""
        return self._run(mesh.list_replicas(service), timeout_s)

    def limits(self, *, timeout_s: float | None = None) -> list[Limits]:
        """The bounds on what each rpc accepts."""
        return self._run(mesh.get_limits(), timeout_s)

    def _run(self, plan: Plan[T], timeout_s: float | None, priority: Priority | None = None) -> T:
        method = self._method(plan.rpc)
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        metadata = self._connection.metadata(priority or self._priority)
        replies: list[Any] = []
        running: deque[tuple[int, Any]] = deque()
        try:
            for request in plan.requests:
                if len(running) == _AT_ONCE:
                    replies.append(self._wait(plan, *running.popleft()))
                call = method.future(request.message, timeout=timeout_s, metadata=metadata)
                running.append((request.offset, call))
            while running:
                replies.append(self._wait(plan, *running.popleft()))
        finally:
            for _, call in running:
                call.cancel()
        return plan.finish(replies)

    def _wait(self, plan: Plan[T], offset: int, call: Any) -> Any:
        try:
            return call.result()
        except grpc.RpcError as error:
            return plan.settle(self._describe(error, offset), cause=error)
        finally:
            # Interrupted while waiting (Ctrl-C), the mesh should not go on for nobody; an ended call ignores it.
            call.cancel()

    def _describe(self, error: grpc.RpcError, offset: int) -> SensoriumError:
        return from_rpc_error(error, address=self._connection.target, offset=offset)

    def _method(self, rpc: Rpc) -> Any:
        if rpc.path not in self._methods:
            self._methods[rpc.path] = self._channel.unary_unary(
                rpc.path,
                request_serializer=rpc.request.SerializeToString,
                response_deserializer=rpc.response.FromString,
            )
        return self._methods[rpc.path]

    def _stream_method(self, rpc: Rpc) -> Any:
        return self._channel.stream_stream(
            rpc.path,
            request_serializer=rpc.request.SerializeToString,
            response_deserializer=rpc.response.FromString,
        )


@dataclass(frozen=True)
class _Answer:
    """The answer to one input of a stream."""

    plan: Plan[Any]
    call: Any
    read: Callable[[Plan[Any], int, Any], Any]

    def wait(self) -> Any:
        """See Pending."""
        (result,) = self.plan.finish([self.read(self.plan, 0, self.call)])
        return result

    def cancel(self) -> None:
        """See Pending."""
        self.call.cancel()
