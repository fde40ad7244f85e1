"""What surrounds every handler, on both fronts: size, decoding, request id, deadline, error → status, log,
metrics, drain.

Handlers are surrounded once, when they are registered, and not by grpc.aio's interceptors: those are asked
again at every call, and would cost the native front a third of what a call costs there. Decoding and encoding
happen in here too, so that a malformed message is the caller's error and a failing encoder's text does not
reach the caller.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from shared.errors import ResourceExhausted, Unimplemented
from shared.rpc.call import Call, Context, explain_decode_error
from shared.rpc.method import Method

Decode = Callable[[bytes], Any]
Encode = Callable[[Any], bytes]


def intercept(method: Method, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
    """Surrounds one handler. Raises TypeError if it is neither `async def` nor a method that generated code
    left open.
    """
    decode = _make_decoder(method, handler.request_deserializer)
    encode: Encode = handler.response_serializer or bytes
    serve: Any
    if not handler.request_streaming and not handler.response_streaming:
        serve = _intercept_unary(method, _check(method, handler.unary_unary, streams=False), decode, encode)
        return grpc.unary_unary_rpc_method_handler(serve)
    if not handler.request_streaming:
        serve = _intercept_stream(method, _check(method, handler.unary_stream, streams=True), decode, encode)
        return grpc.unary_stream_rpc_method_handler(serve)
    if not handler.response_streaming:
        behavior = _check(method, handler.stream_unary, streams=False)
        serve = _intercept_unary(method, _read_stream(behavior, decode), _pass, encode)
        return grpc.stream_unary_rpc_method_handler(serve)
    behavior = _check(method, handler.stream_stream, streams=True)
    serve = _intercept_stream(method, _read_stream(behavior, decode), _pass, encode)
    return grpc.stream_stream_rpc_method_handler(serve)


class Registry:
    """Stands where generated code expects the server: surrounds each handler and hands it on to the front."""

    def __init__(self, server: grpc.aio.Server, make_method: Callable[[str, str], Method]) -> None:
        self._server = server
        self._make_method = make_method
        self._methods: dict[tuple[str, str], Method] = {}
        self.services: list[str] = []
        self._generic: list[grpc.GenericRpcHandler[Any, Any]] = []

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Called by generated code with the methods of one service."""
        self.services.append(service_name)
        surrounded = {}
        for name, handler in method_handlers.items():
            method = self._methods[service_name, name] = self._make_method(service_name, name)
            surrounded[name] = intercept(method, handler)
        self._server.add_registered_method_handlers(service_name, surrounded)  # type: ignore[attr-defined]

    def add_shortcut(self, service_name: str, name: str, shortcut: Any) -> None:
        """Offers a `quick.Shortcut` for a unary method that is registered already; fronts without such a way ignore it."""
        add = getattr(self._server, "add_shortcut", None)
        if add is not None:
            add(self._methods[service_name, name], shortcut)

    def add_generic_rpc_handlers(
        self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler[Any, Any]]
    ) -> None:
        """Called by generated code as well, with the same methods in the older form, which the native front
        does not take.
        """
        self._generic.extend(generic_rpc_handlers)

    def check(self) -> None:
        """Raises TypeError if a service came in the older form only, as code generated before grpcio-tools
        1.64 does.
        """
        for handler in self._generic:
            name = handler.service_name() if isinstance(handler, grpc.ServiceRpcHandler) else None
            if name not in self.services:
                raise TypeError(f"{name or handler}: generate its stubs anew with grpcio-tools 1.64 or later")


def _intercept_unary(method: Method, behavior: Any, decode: Any, encode: Encode) -> Any:
    streams = decode is _pass

    async def serve(payload: Any, context: Context) -> bytes:
        with Call(method, context) as call:
            call.admit(None if streams else payload)
            return encode(await behavior(decode(payload), context))
        return await call.refuse()

    return serve


def _intercept_stream(method: Method, behavior: Any, decode: Any, encode: Encode) -> Any:
    streams = decode is _pass

    async def serve(payload: Any, context: Context) -> AsyncIterator[bytes]:
        with Call(method, context) as call:
            call.admit(None if streams else payload)
            async with aclosing(behavior(decode(payload), context)) as replies:
                async for reply in replies:
                    yield encode(reply)
            return
        await call.refuse()

    return serve


def _read_stream(behavior: Any, decode: Decode) -> Any:
    """Decodes the requests of a stream one by one, on their way to the handler."""

    async def read(payloads: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for payload in payloads:
            yield decode(payload)

    def start(payloads: AsyncIterator[bytes], context: Context) -> Any:
        return behavior(read(payloads), context)

    return start


def _make_decoder(method: Method, deserialize: Decode | None) -> Decode:
    limit = method.settings.max_message_bytes

    def decode(payload: bytes) -> Any:
        if len(payload) > limit:
            raise ResourceExhausted(
                f"the request message of {len(payload)} bytes",
                limit=f"{limit} bytes",
                retry_after_s=None,
                fix="send fewer or smaller items per call",
            )
        if deserialize is None:
            return payload
        try:
            return deserialize(payload)
        except DecodeError as error:
            raise explain_decode_error(method, len(payload), error) from error

    return decode


def _check(method: Method, behavior: Any, *, streams: bool) -> Any:
    """The handler itself, or one that says UNIMPLEMENTED in the place of generated code's default."""
    if inspect.isasyncgenfunction(behavior) if streams else inspect.iscoroutinefunction(behavior):
        return behavior
    if getattr(behavior, "__module__", "").endswith("_pb2_grpc"):
        return _refuse_stream(method) if streams else _refuse_unary(method)
    expected = (
        "an `async def` handler that yields" if streams else "an `async def` handler that returns its reply"
    )
    raise TypeError(f"{method.service}/{method.name}: expected {expected}, got {behavior!r}")


def _refuse_unary(method: Method) -> Any:
    async def refuse(request: Any, context: Context) -> Any:
        raise Unimplemented(f"{method.service}/{method.name} is declared and not served here")

    return refuse


def _refuse_stream(method: Method) -> Any:
    async def refuse(request: Any, context: Context) -> AsyncIterator[Any]:
        raise Unimplemented(f"{method.service}/{method.name} is declared and not served here")
        yield  # makes it a stream

    return refuse


def _pass(payloads: Any) -> Any:
    return payloads
