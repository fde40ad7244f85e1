"""ModelStreamInfer: messages that are answered side by side, and replies that leave in their order.

Here: order, bounds and ends of one stream. Not here: how a message is answered (`answering.py`).

Triton's rules hold: a request gets one reply, replies come in the order of the requests, and one that fails gets an
`error_message` while the stream goes on; with the header `triton_grpc_error: true` the first that fails ends the stream
with its status. A message that cannot be read as one ends the stream, after the replies to those before it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

from sensorium.oip.v2 import inference_pb2 as pb

from shared.errors import DeadlineExceeded, SensoriumError, let_go
from shared.inference.oip.message import InferMessage, InferRequest, get_request
from shared.rpc.deadline import Deadline
from shared.rpc.gate import Gate
from shared.telemetry.logging import get_logger

_log = get_logger("inference")

Answer: TypeAlias = Callable[[InferRequest], Awaitable[pb.ModelInferResponse]]

# Triton's header by which errors become the stream's status.
STRICT_HEADER = "triton_grpc_error"
# Says that a reply is the last one to its request, as Triton does in streams.
_FINAL = "triton_final_response"
# The name of the status that a failed message would have as a call of its own.
_STATUS = "status"
# Messages of one stream that are read and not yet answered and sent. As many as fill the largest batches; more only wait.
# When so many are at work nothing is read, and the client's own flow control holds the rest.
MAX_MESSAGES = 64
# And bytes of them, so that messages of the largest size come two at a time.
MAX_BYTES = 64 * 1024 * 1024
# Seconds for which a client may leave a reply lying that is ready. The native front does not tell of one that has left while
# both directions stood still, and what its stream holds would be held for ever.
MAX_UNREAD_S = 60.0

_Reply: TypeAlias = "asyncio.Task[pb.ModelStreamInferResponse]"


class Stream:
    """One stream, which ends at its deadline. `answer` is called for every message, up to `max_messages` at a time.

    Once its `gate` closes it takes no more messages, and ends when those it has are answered. Its call is cancelled when
    its client leaves a reply lying for `max_unread_s`.
    """

    def __init__(
        self,
        answer: Answer,
        deadline: Deadline,
        *,
        gate: Gate | None = None,
        strict: bool = False,
        max_messages: int = MAX_MESSAGES,
        max_bytes: int = MAX_BYTES,
        max_unread_s: float = MAX_UNREAD_S,
    ) -> None:
        self._answer = answer
        self._deadline = deadline
        self._gate = gate
        self._strict = strict
        self._max_messages, self._max_bytes = max_messages, max_bytes
        self._max_unread_s = max_unread_s
        # When the reply was ready that waits to be sent.
        self._unread_since_s: float | None = None
        # Taken in and not yet sent.
        self._messages = self._bytes = 0
        self._room = asyncio.Event()
        # Replies in the order of their messages, with what each takes; None is the end. Bounded by the room.
        self._replies: asyncio.Queue[tuple[_Reply, int] | None] = asyncio.Queue()

    async def serve(
        self, messages: AsyncIterator[InferRequest]
    ) -> AsyncGenerator[pb.ModelStreamInferResponse, None]:
        """The replies. Whenever it ends, nothing of the stream goes on.

        Raises:
            SensoriumError: a message could not be read; or, if strict, one failed.
            DeadlineExceeded: the stream's deadline passed.
            Unavailable: the server drains.
        """
        reading = asyncio.create_task(self._read(messages))
        watching = asyncio.create_task(self._watch(asyncio.current_task()))
        left: list[asyncio.Task[Any]] = [reading, watching]
        if self._gate is not None:
            left.append(asyncio.create_task(_stop_reading(reading, self._gate)))
        held = len(left)
        try:
            while (taken := await self._replies.get()) is not None:
                reply, n_bytes = taken
                left[held:] = [reply]
                answered = await reply
                self._unread_since_s = time.monotonic()
                yield answered
                self._unread_since_s = None
                # Only here it is known to be on its way: a client that does not read its replies gets no more work done.
                self._messages -= 1
                self._bytes -= n_bytes
                self._room.set()
            if reading.cancelled() and self._gate is not None and self._gate.closed:
                raise self._gate.make_refusal()
            await reading
        finally:
            while not self._replies.empty():
                if (taken := self._replies.get_nowait()) is not None:
                    left.append(taken[0])
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _watch(self, call: asyncio.Task[Any] | None) -> None:
        """Cancels the call whose client does not take its replies."""
        while True:
            await asyncio.sleep(self._max_unread_s / 2)
            since_s = self._unread_since_s
            if call is not None and since_s is not None and time.monotonic() - since_s > self._max_unread_s:
                _log.warning("stream ended, its client reads no replies", after_s=self._max_unread_s)
                call.cancel()
                return

    async def _read(self, messages: AsyncIterator[InferRequest]) -> None:
        """Takes messages in as long as there is room, until the client has sent its last."""
        try:
            while True:
                while self._messages >= self._max_messages or self._bytes >= self._max_bytes:
                    self._room.clear()
                    await self._room.wait()
                try:
                    message = await anext(messages)
                except StopAsyncIteration:
                    return
                n_bytes = measure(message)
                self._messages += 1
                self._bytes += n_bytes
                self._replies.put_nowait((asyncio.create_task(self._reply(message)), n_bytes))
        finally:
            self._replies.put_nowait(None)

    async def _reply(self, message: InferRequest) -> pb.ModelStreamInferResponse:
        try:
            answer = await self._answer(message)
        except SensoriumError as error:
            # The end of the stream's own time is no message's.
            if self._strict or (isinstance(error, DeadlineExceeded) and self._deadline.expired):
                raise
            failed = pb.ModelStreamInferResponse(error_message=error.message)
            request = get_request(message)
            answer = failed.infer_response
            answer.id, answer.model_name = request.id, request.model_name
            answer.model_version = request.model_version
            answer.parameters[_STATUS].string_param = error.code.name
            answer.parameters[_FINAL].bool_param = True
            let_go(error)
            return failed
        answer.parameters[_FINAL].bool_param = True
        return pb.ModelStreamInferResponse(infer_response=answer)


async def _stop_reading(reading: asyncio.Task[None], gate: Gate) -> None:
    await gate.wait_closed()
    reading.cancel()


def measure(message: InferRequest) -> int:
    """Bytes of a message."""
    if isinstance(message, InferMessage):
        return message.request.ByteSize() + sum(map(len, message.raw))
    return message.ByteSize()
