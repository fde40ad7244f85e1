"""One call from the first byte to its status: request id, deadline, log line, counts, and the status it ends
with.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc
from google.protobuf.message import DecodeError

from shared.errors import (
    QUEUE_FULL,
    Cancelled,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    SensoriumError,
    Unimplemented,
    let_go,
)
from shared.rpc.admission.admission import Permit, read_model_name, set_door
from shared.rpc.caller import (
    ANONYMOUS,
    ATTEMPT_HEADER,
    PRINCIPAL_HEADER,
    PRIORITY_HEADER,
    TIER_HEADER,
    Caller,
    Priority,
    read_priority,
    set_caller,
)
from shared.rpc.deadline import (
    DEADLINE_HEADER,
    NEVER,
    Deadline,
    set_deadline,
    set_message_timeout,
)
from shared.rpc.gate import Ending, set_gate
from shared.rpc.method import Method
from shared.rpc.report import Report, set_report
from shared.telemetry import tracing
from shared.telemetry.correlation import Correlation, set_correlation
from shared.telemetry.logging import get_logger

# Where a google.rpc.Status goes, by gRPC's convention.
DETAILS_TRAILER = "grpc-status-details-bin"
# When a client that retries should do so, see gRFC A6. The native front lets nobody send what begins with `grpc-`: from
# there it goes under a name of ours, which the gateway translates.
PUSHBACK_TRAILERS = {"native": "x-sensorium-retry-pushback-ms", "grpcio": "grpc-retry-pushback-ms"}
REQUEST_ID_HEADER = "x-request-id"
TRACEPARENT_HEADER = "traceparent"
HEADERS = frozenset(
    (
        REQUEST_ID_HEADER,
        TRACEPARENT_HEADER,
        DEADLINE_HEADER,
        PRINCIPAL_HEADER,
        TIER_HEADER,
        PRIORITY_HEADER,
        ATTEMPT_HEADER,
    )
)

# A front cuts a call by itself at the client's deadline. Ours is left to it unless it is earlier by more than
# this.
_FRONT_IS_EXACT_S = 0.005

Context = Any  # grpc.aio.ServicerContext, or pygrpc_native's, which has the same methods


class Call:
    """Surrounds the handler: however the block ends, the call ends with the status that stands for it.

    with Call(method, context) as call:
        call.admit(payload)
        return await …
    await call.refuse()          # reached only if the block failed with what the caller is to be told
    """

    __slots__ = (
        "_alarmed",
        "_context",
        "_ending",
        "_error",
        "_permit",
        "_task",
        "correlation",
        "deadline",
        "method",
        "report",
        "started_s",
    )

    def __init__(self, method: Method, context: Context) -> None:
        self.method = method
        self._context = context
        self.started_s = time.monotonic()
        self.correlation = _UNKNOWN
        self.deadline: Deadline | None = None
        self.report: Report | None = None
        self._permit: Permit | None = None
        self._task: asyncio.Task[Any] | None = None
        self._alarmed = False
        self._ending: Ending | None = None
        self._error: Exception | asyncio.CancelledError | None = None
        method.metrics.started += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        # It leads to the request, and a front may keep the frame it stands in.
        del traceback
        if error is None:
            now_s = time.monotonic()
            self._say(now_s)
            code = self._context.code()
            self._finish("OK" if code is None else _get_name(code), now_s)
            return False
        if isinstance(error, asyncio.CancelledError) and self._ending is None:
            # The client left, or the front ended the call at the client's own deadline.
            late = self.deadline is not None and self.deadline.remaining_s() <= _FRONT_IS_EXACT_S
            self._finish("DEADLINE_EXCEEDED" if late else "CANCELLED")
            return False
        if isinstance(error, grpc.aio.AbortError):
            # The handler's own, or of what it called.
            self._say(time.monotonic())
            self._finish(_get_name(self._context.code()))
            return False
        if isinstance(error, Exception | asyncio.CancelledError):
            self._error = error
            return True
        # GeneratorExit: the client left between two replies. Or the process is being taken down. Nothing may be awaited.
        self._finish("CANCELLED")
        return False

    def admit(self, payload: bytes | None) -> None:
        """Reads what the metadata says and takes the call in. payload: the request message; None for a stream, whose
        messages are admitted one by one.

        Raises InvalidArgument, DeadlineExceeded (it was late on arrival), Unavailable (draining) or ResourceExhausted
        (refused for load, or for what its principal has taken).
        """
        context = self._context
        # A call that comes without a gateway brings hardly any of these.
        sent = {key: value for key, value in context.invocation_metadata() if key in HEADERS}
        self.correlation = correlation = Correlation.of(
            sent.get(REQUEST_ID_HEADER, ""), sent.get(TRACEPARENT_HEADER, "")
        )
        set_correlation(correlation)
        method = self.method
        if method.infrastructure:
            return
        # It was tried on the short way, see `quick.py`.
        if (refusal := getattr(context, "refusal", None)) is not None:
            raise refusal
        remaining_s, started_s = context.time_remaining(), self.started_s
        stamp = sent.get(DEADLINE_HEADER, "")
        if payload is None:
            deadline = Deadline.of_stream(remaining_s, stamp, started_s)
            # A deadline that no single call may have is that of the stream, and says nothing of its messages.
            if deadline.at_s - started_s > method.settings.max_timeout_s:
                set_message_timeout(method.settings.default_timeout_s)
        else:
            deadline = Deadline.from_parts(remaining_s, stamp, method.settings, started_s)
        self.deadline = deadline
        set_deadline(deadline)
        self.report = report = Report(traced=tracing.wants(correlation))
        set_report(report)
        caller = ANONYMOUS
        retried = sent.get(ATTEMPT_HEADER, "1") != "1"
        if retried or PRINCIPAL_HEADER in sent or PRIORITY_HEADER in sent:
            priority = sent.get(PRIORITY_HEADER, "")
            urgency = read_priority(priority) if priority else Priority.INTERACTIVE
            caller = Caller(sent.get(PRINCIPAL_HEADER, ""), sent.get(TIER_HEADER, ""), urgency, retried)
            set_caller(caller)
        method.gate.enter(self)
        left_s = deadline.at_s - started_s
        if left_s <= 0:
            raise DeadlineExceeded("the call was on its way")
        if payload is None:
            set_door(method.door)
            set_gate(method.gate)
        else:
            self._permit = method.door.enter(read_model_name(payload), len(payload), caller, started_s)
        self._task = task = asyncio.current_task()
        if (
            task is not None
            and deadline is not NEVER
            and (remaining_s is None or remaining_s > left_s + _FRONT_IS_EXACT_S)
        ):
            self._alarmed = True
            method.gate.watch(self, deadline.at_s)

    def end(self, ending: Ending) -> None:
        """Cancels the call for a reason of ours; it is answered with the matching status."""
        if self._ending is None and self._task is not None:
            self._ending = ending
            self._task.cancel()

    async def refuse(self) -> NoReturn:
        """Ends the call with the status that the block's error stands for."""
        context, error = self._context, self._error
        assert error is not None, "the block ended well"
        self._error = None
        if isinstance(error, asyncio.CancelledError):
            error = self._take_back()
        if isinstance(error, NotImplementedError) and context.code() is grpc.StatusCode.UNIMPLEMENTED:
            # What generated code does for a method that a servicer leaves out.
            error = Unimplemented(f"{self.method.service}/{self.method.name} is declared and not served here")
        if not isinstance(error, SensoriumError):
            get_logger("rpc").error(
                "unexpected error", service=self.method.service, method=self.method.name, exc_info=error
            )
            let_go(error)
            error = Internal(self.correlation.request_id)
        if error.reason == QUEUE_FULL and self._permit is not None:
            self._permit.overflow(time.monotonic())
        self._finish(error.code.name)
        let_go(error)
        trailers: list[tuple[str, str | bytes]] = [(DETAILS_TRAILER, error.to_status().SerializeToString())]
        if (pushback_ms := error.pushback_ms) is not None:
            trailers.append((PUSHBACK_TRAILERS[self.method.settings.front], str(pushback_ms)))
        self._say(time.monotonic())
        try:
            await context.abort(error.code, error.message, (*(context.trailing_metadata() or ()), *trailers))
        except grpc.aio.InternalError:
            # grpcio's way to say that the client left before it was answered; as an error it would be logged with a stack.
            raise asyncio.CancelledError from None
        raise AssertionError("abort raises")

    def _finish(self, code: str, now_s: float | None = None) -> None:
        method = self.method
        if self._alarmed and self.deadline is not None:
            method.gate.forget(self, self.deadline.at_s)
        method.gate.leave(self)
        if now_s is None:
            now_s = time.monotonic()
        duration_s = now_s - self.started_s
        if self._permit is not None:
            self._permit.leave(self.report, now_s, answered=code == "OK")
        method.metrics.finish(code, duration_s)
        method.log.write(code, duration_s, self.correlation)
        if self.report is not None and (parts := self.report.parts) is not None:
            tracing.record(method.service, method.name, code, self.correlation, self.started_s, now_s, parts)

    def _say(self, now_s: float) -> None:
        """Puts the report and the load of the process into the trailers, behind those that the handler set."""
        report = self.report
        if report is None:
            return
        context = self._context
        load = self.method.load.trailer(now_s)
        said = (*report.to_trailers(), load) if report.models else (load,)
        before = context.trailing_metadata()
        context.set_trailing_metadata((*before, *said) if before else said)

    def _take_back(self) -> SensoriumError:
        """Turns our own cancellation into the error it stands for, so that the task can go on to answer."""
        if self._task is not None and self._task.uncancel() > 0:
            # Somebody else cancelled it as well: the client is gone.
            return Cancelled()
        if self._ending is Ending.DRAIN:
            return self.method.gate.make_refusal()
        return DeadlineExceeded("the call was being answered")


_UNKNOWN = Correlation("unknown")


def _get_name(code: object) -> str:
    return code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"


def explain_decode_error(method: Method, payload_bytes: int, error: DecodeError) -> InvalidArgument:
    """What a caller gets whose bytes are no message of the method's request type."""
    return InvalidArgument(
        "request",
        expected=f"a message of the request type of {method.service}/{method.name}",
        got=f"{payload_bytes} bytes that are none ({str(error) or 'malformed'})",
        fix="generate the client from the same protos as the server",
    )
