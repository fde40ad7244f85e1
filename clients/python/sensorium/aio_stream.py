"""Streams of the client for asyncio: a task takes inputs, a bounded number ahead of the results, which come in order.

What one input becomes is in `sensorium.calls`; for ordinary code there is `sensorium.stream`.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar

import grpc.aio

from sensorium.calls.stream import GRACE_S, Settled, unanswered
from sensorium.errors import Cancelled, SensoriumError
from sensorium.stream import ended_early

T = TypeVar("T")

# The status that grpc.aio makes up where a message could not be written, in the place of the mesh's own.
_NOT_WRITTEN = "Internal error from Core"


class _End:
    """No more inputs come."""


class _Ended:
    """The call of a stream has ended, by whatever cause."""


@contextlib.contextmanager
def closing_is_an_error() -> Iterator[None]:
    """A call whose client is closed ends in CancelledError, which would end the task that waits. Where nobody cancelled that
    task it becomes the error that it is for ordinary code.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Cancelled("the client was closed", code="CANCELLED") from None


async def _iterate(inputs: AsyncIterable[T] | Iterable[T]) -> AsyncGenerator[T, None]:
    if isinstance(inputs, AsyncIterable):
        async for given in inputs:
            yield given
    else:
        for given in inputs:
            yield given


async def stream_calls(
    inputs: AsyncIterable[T] | Iterable[T], ask: Callable[[T], Awaitable[Any]], at_once: int
) -> AsyncGenerator[Any, None]:
    """A call per input. Closing it cancels what is under way."""
    slots = asyncio.Semaphore(at_once)
    answers: asyncio.Queue[asyncio.Future[Any] | _End] = asyncio.Queue()
    running: set[asyncio.Future[Any]] = set()

    async def feed() -> None:
        try:
            async with contextlib.aclosing(_iterate(inputs)) as source:
                await slots.acquire()
                async for given in source:
                    answer = asyncio.ensure_future(ask(given))
                    running.add(answer)
                    answers.put_nowait(answer)
                    # Before the next input is taken: there are never more of them than slots.
                    await slots.acquire()
        finally:
            answers.put_nowait(_End())

    feeding = asyncio.create_task(feed())
    try:
        while not isinstance(answer := await answers.get(), _End):
            result = await answer
            running.discard(answer)
            slots.release()
            yield result
        await feeding  # raises what the inputs raised
    finally:
        await _cancel(feeding, *running)


async def stream_messages(
    inputs: AsyncIterable[T] | Iterable[T],
    open_call: Callable[[], Any],
    make: Callable[[T], Any],
    parse: Callable[[Any], Any],
    describe: Callable[[grpc.aio.AioRpcError], SensoriumError],
    at_once: int,
    timeout_s: float,
) -> AsyncGenerator[Any, None]:
    """One call with a message per input, and a reply per message. make: a message, or Settled for an input that is none.

    timeout_s: of each message, which the mesh keeps, unless it hangs. Closing it cancels the call.
    """
    slots = asyncio.Semaphore(at_once)
    # In the order of the inputs: a result that took no message, or None where the next reply is to be read.
    answers: asyncio.Queue[Settled | _End | _Ended | None] = asyncio.Queue()
    call = open_call()
    # What grpc.aio says of a call into which it could not write is not what the mesh said of it. Until the first reply is
    # there, which tells that the mesh takes this stream, nothing else is written.
    taken = asyncio.Event()
    # Inputs may be long in coming; nobody should wait for them when the call is over.
    call.add_done_callback(lambda _: answers.put_nowait(_Ended()))

    async def feed() -> None:
        try:
            async with contextlib.aclosing(_iterate(inputs)) as source:
                await slots.acquire()
                async for given in source:
                    message = make(given)
                    if isinstance(message, Settled):
                        answers.put_nowait(message)
                    else:
                        # Before it is sent: the reply may be there before the write is said to be done.
                        answers.put_nowait(None)
                        with closing_is_an_error():
                            await call.write(message)
                        await taken.wait()
                    await slots.acquire()
        finally:
            answers.put_nowait(_End())

    async def read() -> Any:
        try:
            async with asyncio.timeout(timeout_s + GRACE_S):
                with closing_is_an_error():
                    reply = await call.read()
        except TimeoutError as error:
            raise unanswered(timeout_s) from error
        except grpc.aio.AioRpcError as error:
            if error.details() == _NOT_WRITTEN:
                raise ended_early() from error
            raise describe(error) from error
        taken.set()
        if reply is grpc.aio.EOF:  # type: ignore[attr-defined]
            raise ended_early()
        return parse(reply)

    feeding = asyncio.create_task(feed())
    try:
        while not isinstance(answer := await answers.get(), _End):
            if isinstance(answer, _Ended):
                # Of inputs that were all sent, the answers that are missing will say more.
                if not feeding.done() or feeding.exception() is not None:
                    await read()
                    raise ended_early()
                continue
            result = await read() if answer is None else answer.wait()
            slots.release()
            yield result
        await feeding  # raises what the inputs raised
        # All is answered: let the mesh end the call.
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call.done_writing()
            await call.read()
    finally:
        await _cancel(feeding)
        call.cancel()


async def _cancel(*tasks: "asyncio.Future[Any]") -> None:
    """Nothing goes on in the background of a stream that has ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
