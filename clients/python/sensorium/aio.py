"""The client for asyncio. What a call means is in `sensorium.calls`, shared with `sensorium.client`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import grpc
import grpc.aio

from sensorium.aio_methods.nlp import AsyncNlpMethods
from sensorium.aio_methods.speech import AsyncSpeechMethods
from sensorium.aio_methods.vision import AsyncVisionMethods
from sensorium.aio_stream import closing_is_an_error, stream_calls, stream_messages
from sensorium.calls import inference, mesh
from sensorium.calls.plan import Plan, Request, Rpc, check_timeout
from sensorium.calls.stream import AT_ONCE, Settled, check_at_once, check_inputs, streamed
from sensorium.connection import Priority, connection
from sensorium.errors import from_rpc_error
from sensorium.results import Limits, ModelInfo, ReplicaInfo, Result
from sensorium.tensor import Inference, TensorLike

T = TypeVar("T")
R = TypeVar("R", bound=Result)

# Calls at once for a list that needs several: enough to use a few replicas, too few to crowd others out.
_AT_ONCE = 4


class AsyncClient(AsyncVisionMethods, AsyncNlpMethods, AsyncSpeechMethods):
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
        self._timeout_s = check_timeout(timeout_s)
        self._priority = priority
        self._options = self._connection.options(retries=retries)
        self._channel: grpc.aio.Channel | None = None
        self._closed = False
        self._methods: dict[str, Any] = {}

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls that run are cancelled, and none can be made any more."""
        self._closed = True
        channel, self._channel = self._channel, None
        self._methods.clear()
        if channel is not None:
            await channel.close(None)

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
        check_inputs(inputs)
        asked = streamed(self, call, options)

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
        timeout_s = self._timeout_s if timeout_s is None else check_timeout(timeout_s)
        check_inputs(inputs)
        metadata = self._connection.metadata(priority or self._priority)
        make = inference.message_maker(model, outputs, version=version, timeout_s=timeout_s)
        return stream_messages(
            inputs,
            lambda: self._stream_method(inference.stream_rpc())(metadata=metadata),
            make,
            inference.parse_stream_reply,
            lambda error: from_rpc_error(error, address=self._connection.target),
            check_at_once(at_once),
            timeout_s,
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
        timeout_s = self._timeout_s if timeout_s is None else check_timeout(timeout_s)
        metadata = self._connection.metadata(priority or self._priority)
        slots = asyncio.Semaphore(_AT_ONCE)

        async def ask(request: Request) -> Any:
            async with slots:
                try:
                    with closing_is_an_error():
                        return await method(request.message, timeout=timeout_s, metadata=metadata)
                except grpc.aio.AioRpcError as error:
                    described = from_rpc_error(error, address=self._connection.target, offset=request.offset)
                    return plan.settle(described, request, cause=error)

        calls = [asyncio.ensure_future(ask(request)) for request in plan.requests]
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
        if self._closed:
            raise ValueError("the client is closed; make another one")
        if self._channel is None:
            target = self._connection.target
            self._channel = (
                grpc.aio.secure_channel(target, self._connection.credentials(), self._options)
                if self._connection.secure
                else grpc.aio.insecure_channel(target, self._options)
            )
        return self._channel
