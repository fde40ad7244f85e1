"""The client for ordinary code. For asyncio there is `sensorium.aio`; what a call means is in `sensorium.calls`."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import grpc

from sensorium.calls import inference, mesh
from sensorium.calls.plan import Plan, Request, Rpc, check_timeout
from sensorium.calls.stream import AT_ONCE, Settled, check_at_once, check_inputs, streamed
from sensorium.connection import Priority, connection
from sensorium.errors import SensoriumError, from_rpc_error
from sensorium.methods.nlp import NlpMethods
from sensorium.methods.speech import SpeechMethods
from sensorium.methods.vision import VisionMethods
from sensorium.results import Limits, ModelInfo, ReplicaInfo, Result
from sensorium.stream import Pending, stream_calls, stream_messages
from sensorium.tensor import Inference, TensorLike

T = TypeVar("T")
R = TypeVar("R", bound=Result)

# Calls at once for a list that needs several: enough to use a few replicas, too few to crowd others out.
_AT_ONCE = 4


class Client(VisionMethods, NlpMethods, SpeechMethods):
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
        self._timeout_s = check_timeout(timeout_s)
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
        check_inputs(inputs)
        asked = streamed(self, call, options)
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

        timeout_s: of each message, from when it arrives; the stream itself may last as long as the mesh lets it. A mesh that
        says nothing of a message for five seconds more is taken for gone: DeadlineExceeded is raised.
        """
        timeout_s = self._timeout_s if timeout_s is None else check_timeout(timeout_s)
        check_inputs(inputs)
        metadata = self._connection.metadata(priority or self._priority)
        make = inference.message_maker(model, outputs, version=version, timeout_s=timeout_s)
        return stream_messages(
            inputs,
            lambda messages: self._stream_method(inference.stream_rpc())(messages, metadata=metadata),
            make,
            inference.parse_stream_reply,
            lambda error: self._describe(error, 0),
            check_at_once(at_once),
            timeout_s,
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
        timeout_s = self._timeout_s if timeout_s is None else check_timeout(timeout_s)
        metadata = self._connection.metadata(priority or self._priority)
        replies: list[Any] = []
        running: deque[tuple[Request, Any]] = deque()
        try:
            for request in plan.requests:
                if len(running) == _AT_ONCE:
                    replies.append(self._wait(plan, *running.popleft()))
                call = method.future(request.message, timeout=timeout_s, metadata=metadata)
                running.append((request, call))
            while running:
                replies.append(self._wait(plan, *running.popleft()))
        finally:
            for _, call in running:
                call.cancel()
        return plan.finish(replies)

    def _wait(self, plan: Plan[T], request: Request, call: Any) -> Any:
        try:
            return call.result()
        except grpc.RpcError as error:
            return plan.settle(self._describe(error, request.offset), request, cause=error)
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
    read: Callable[[Plan[Any], Request, Any], Any]

    def wait(self) -> Any:
        """See Pending."""
        (request,) = self.plan.requests
        (result,) = self.plan.finish([self.read(self.plan, request, self.call)])
        return result

    def cancel(self) -> None:
        """See Pending."""
        self.call.cancel()
