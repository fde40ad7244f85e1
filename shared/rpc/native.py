"""The native front: HTTP/2 and gRPC framing in Rust (`pygrpc_native.NativeGrpcFront`), handlers on the event loop.

Here: from the front's events to handlers and back, with the methods of grpc.aio's server and context that this project
uses. pygrpc-native brings such a server itself; this one does the same with one object and one task a call, for handlers
that `interceptor.py` has surrounded: bytes in, bytes out, every error mapped. An empty unary call costs 2 µs on the event
loop here, and 7 there.

Methods with a stream of requests are served by grpc.aio behind the front, on a Unix socket of their own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from inspect import CORO_CREATED, getcoroutinestate, iscoroutine
from pathlib import Path
from typing import Any, TypeAlias

import grpc
from pygrpc_native import EVENT_CANCEL, STREAM_CLOSED, STREAM_FULL, NativeGrpcFront

from shared.rpc.channel import channel as open_channel
from shared.rpc.context import NativeContext
from shared.rpc.method import Method
from shared.rpc.quick import Details, Quick, Shortcut

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

# Threads of the front. One carries some 50,000 small calls a second, or 2 GB of large ones, which is more than one process
# of Python answers; with two, half of the calls wake both.
_IO_THREADS = 1
# Events that are taken from the front at a time.
_BURST = 64
# How long the last answers get to be written when the server stops.
_FLUSH_S = 1.0
_OK = grpc.StatusCode.OK
# Folder of the socket to grpc.aio, in the system's folder for temporary files; the process's id follows.
_FOLDER = "sensorium-front-"


class NativeServer:
    """One insecure port. The methods are those of grpc.aio.Server; a server starts and stops once."""

    def __init__(self, options: Sequence[tuple[str, int]]) -> None:
        """`options` are the fallback's; of the front only so_reuseport and the permission to ping are asked for."""
        self._options = list(options)
        self._front: NativeGrpcFront | None = None
        self._fallback: grpc.aio.Server | None = None
        self._folder: Path | None = None
        self._address = ""
        # Any method that the front answers itself.
        self._probe_path: str | None = None
        self._registered: dict[str, dict[str, Handler]] = {}
        self._shortcuts: dict[str, Quick] = {}
        # By the front's number of the method: its shortcut, and what begins a call on the usual way.
        self._methods: list[tuple[Quick | None, Callable[..., None]]] = []
        self._calls: dict[int, NativeContext] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        # Events on their way from the front's thread to the loop. The thread appends and then looks whether the loop is
        # woken; the loop takes that back before it empties them: nothing is left lying.
        self._arrived: deque[list[Any]] = deque()
        self._woken = False

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, Handler]
    ) -> None:
        """The methods of one service, surrounded by `intercept`."""
        self._registered.setdefault(service_name, {}).update(method_handlers)

    def add_shortcut(self, method: Method, shortcut: Shortcut) -> None:
        """Offers a unary method a way without a task, see `quick.py`."""
        self._shortcuts[f"/{method.service}/{method.name}"] = Quick(method, shortcut)

    def add_insecure_port(self, address: str) -> int:
        """Binds `host:port` or `unix:/path`; the port. Raises RuntimeError if it cannot be had."""
        try:
            self._front = NativeGrpcFront(
                address,
                [],
                io_threads=_IO_THREADS,
                call_details=True,
                delay_stream_headers=True,
                keepalive_permit_without_calls=True,
                reuse_port=False,
            )
        except OSError as error:
            raise RuntimeError(f"cannot bind {address}") from error
        port = int(self._front.bound_port)
        host = address.rpartition(":")[0]
        self._address = address if address.startswith("unix:") else f"{host}:{port}"
        return port

    async def start(self) -> None:
        """Takes calls."""
        front = self._front
        assert front is not None, "add a port first"
        self._loop = asyncio.get_running_loop()
        native: dict[str, Handler] = {}
        behind: dict[str, dict[str, Handler]] = {}
        for service, handlers in self._registered.items():
            for name, handler in handlers.items():
                if handler.request_streaming:
                    behind.setdefault(service, {})[name] = handler
                else:
                    native[f"/{service}/{name}"] = handler
        if behind:
            await self._start_fallback(front, behind)
        front.add_methods([(path, handler.response_streaming) for path, handler in native.items()])
        self._probe_path = next(iter(native), None)
        self._methods = [
            (
                self._shortcuts.get(path),
                partial(self._begin, handler.response_streaming, handler.unary_stream or handler.unary_unary),
            )
            for path, handler in native.items()
        ]
        front.start()
        threading.Thread(target=self._pump, args=(front, self._loop), name="front", daemon=True).start()

    async def stop(self, grace: float | None) -> None:
        """Refuses new calls, lets those in flight go on for `grace` seconds, cancels the rest, closes."""
        self._stopping = True
        fallback = None
        if self._fallback is not None:
            fallback = asyncio.ensure_future(self._fallback.stop(grace))
        tasks = [call.task for call in self._calls.values() if call.task is not None]
        if grace and tasks:
            await asyncio.wait(tasks, timeout=grace)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if fallback is not None:
            await fallback
        if self._front is not None:
            await self._flush()
            await asyncio.to_thread(self._front.close)
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _flush(self) -> None:
        """Waits until the front has written the answers that it was given: closing it throws away what is not.

        It does not say when that is so. But its one thread writes them in the order it got them, so that they are gone
        once a call of our own has been refused.
        """
        if self._probe_path is None:
            return
        async with open_channel(self._address) as channel:
            with suppress(grpc.aio.AioRpcError):
                await channel.unary_unary(self._probe_path, bytes, bytes)(b"", timeout=_FLUSH_S)

    async def _start_fallback(
        self, front: NativeGrpcFront, services: Mapping[str, Mapping[str, Handler]]
    ) -> None:
        await asyncio.to_thread(_remove_left_folders)
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-"))
        path = str(self._folder / "streams.sock")
        fallback = grpc.aio.server(options=self._options)
        for service, handlers in services.items():
            fallback.add_registered_method_handlers(service, handlers)  # type: ignore[attr-defined]
        fallback.add_insecure_port(f"unix:{path}")
        await fallback.start()
        self._fallback = fallback
        front.set_fallback(path)

    def _pump(self, front: NativeGrpcFront, loop: asyncio.AbstractEventLoop) -> None:
        """On a thread of its own: hands events over to the loop, and wakes it if it does not know yet."""
        while (events := front.recv_batch_details(_BURST)) is not None:
            self._arrived.append(events)
            if not self._woken:
                self._woken = True
                try:
                    loop.call_soon_threadsafe(self._take)
                except RuntimeError:
                    # The loop was closed without `stop`.
                    front.close()
                    return

    def _take(self) -> None:
        self._woken = False
        front, calls, methods, arrived = self._front, self._calls, self._methods, self._arrived
        assert front is not None
        while arrived:
            for kind, call_id, method, payload, _, details in arrived.popleft():
                if kind == EVENT_CANCEL:
                    if (left := calls.get(call_id)) is not None:
                        left.left = True
                        if left.task is not None:
                            left.task.cancel()
                            # A task that has not begun ends without a step, so that nothing in it could forget the call.
                            coroutine = left.task.get_coro()
                            if iscoroutine(coroutine) and getcoroutinestate(coroutine) == CORO_CREATED:
                                del calls[call_id]
                    continue
                if self._stopping:
                    front.fail(call_id, grpc.StatusCode.UNAVAILABLE.value[0], "the server is stopping")
                    continue
                quick, begin = methods[method]
                if quick is None or not quick.take(front, call_id, payload, details, begin):
                    begin(call_id, payload, details)
        for quick in self._shortcuts.values():
            quick.finish()

    def _begin(
        self,
        streams: bool,
        behavior: Any,
        call_id: int,
        payload: bytes,
        details: Details,
        refusal: BaseException | None = None,
    ) -> None:
        front, loop = self._front, self._loop
        assert front is not None
        context = self._calls[call_id] = NativeContext(call_id, details, refusal)
        run = self._run_stream if streams else self._run_unary
        # As loop.create_task, without making up a name for each.
        context.task = asyncio.Task(run(front, context, behavior, payload), loop=loop, name="call")

    async def _run_unary(
        self, front: NativeGrpcFront, context: NativeContext, behavior: Any, payload: bytes
    ) -> None:
        ended = False
        try:
            reply = await behavior(payload, context)
            ended = True
            if context._code is None or context._code is _OK:
                front.respond(context.call_id, reply, context._initial, context._trailing)
            else:
                self._fail(front, context)
        except grpc.aio.AbortError:
            ended = True
            self._fail(front, context)
        finally:
            self._end(front, context, ended)

    async def _run_stream(
        self, front: NativeGrpcFront, context: NativeContext, behavior: Any, payload: bytes
    ) -> None:
        ended = False
        try:
            async with aclosing(behavior(payload, context)) as replies:
                async for reply in replies:
                    if context._initial is not None:
                        front.stream_send_initial_metadata(context.call_id, context._initial)
                        context._initial = None
                    sent = front.stream_try_send(context.call_id, reply)
                    if sent == STREAM_FULL:
                        # The client is behind. Waiting for room blocks, which the loop must not.
                        gone = not await asyncio.to_thread(front.stream_send, context.call_id, reply)
                    else:
                        gone = sent == STREAM_CLOSED
                    if gone:
                        context.left = True
                        return
            ended = True
            if context._code is None or context._code is _OK:
                front.stream_end(context.call_id, context._trailing)
            else:
                self._fail(front, context)
        except grpc.aio.AbortError:
            ended = True
            self._fail(front, context)
        finally:
            self._end(front, context, ended)

    def _fail(self, front: NativeGrpcFront, context: NativeContext) -> None:
        code = grpc.StatusCode.UNKNOWN if context._code is None else context._code
        front.fail(context.call_id, code.value[0], context._details, context._trailing)

    def _end(self, front: NativeGrpcFront, context: NativeContext, ended: bool) -> None:
        del self._calls[context.call_id]
        context.task = None
        if not ended and not context.left:
            # Cancelled by us, or by a bug that was logged where it happened. The client must not wait for ever.
            code = grpc.StatusCode.UNAVAILABLE if self._stopping else grpc.StatusCode.CANCELLED
            front.fail(context.call_id, code.value[0], "the call was cancelled by the server")


def _remove_left_folders() -> None:
    """Removes the folders of processes that were killed. Others' folders cannot be removed, and are left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*-*"):
        pid = folder.name.removeprefix(_FOLDER).partition("-")[0]
        if not pid.isdigit():
            continue
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (PermissionError, OverflowError):
            continue
