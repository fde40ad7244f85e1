"""One call from the first byte to its status: request id, deadline, log line, counts, and the status it ends
with.
"""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message import DecodeError

from shared.errors import (
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
    PRINCIPAL_HEADER,
    PRIORITY_HEADER,
    TIER_HEADER,
    Caller,
    Priority,
    read_priority,
    set_caller,
)
from shared.rpc.deadline import DEADLINE_HEADER, Deadline, set_deadline
from shared.rpc.gate import Ending
from shared.rpc.method import Method
from shared.rpc.report import Report, set_report
from shared.telemetry.correlation import Correlation, accept_request_id, new_request_id, set_correlation
from shared.telemetry.logging import get_logger

# Where a google.rpc.Status goes, by gRPC's convention.
DETAILS_TRAILER = "grpc-status-details-bin"
# When a client that retries should do so, see gRFC A6. The native front lets nobody send what begins with `grpc-`: from
# there it goes under a name of ours, which the gateway translates.
PUSHBACK_TRAILERS = {"native": "x-sensorium-retry-pushback-ms", "grpcio": "grpc-retry-pushback-ms"}
REQUEST_ID_HEADER = "x-request-id"
TRACEPARENT_HEADER = "traceparent"

# A front cuts a call by itself at the client's deadline. Ours is left to it unless it is earlier by more than
# this.
_FRONT_IS_EXACT_S = 0.005

Context = Any  # grpc.aio.ServicerContext, or pygrpc_native's, which has the same methods


class Call:
    """Surrounds the handler: however the block ends, the call ends with the status that stands for it."""

    __slots__ = (
        "_context",
        "_ending",
        "_permit",
        "_task",
        "_timer",
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
        self._timer: asyncio.TimerHandle | None = None
        self._ending: Ending | None = None
        method.metrics.started += 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # It leads to the request, and a front may keep the frame it stands in.
        del traceback
        if error is None:
            self._say()
            code = self._context.code()
            self._finish("OK" if code is None else _get_name(code))
        elif isinstance(error, Exception | asyncio.CancelledError):
            await self._fail(error)
        else:
            # GeneratorExit: the client left between two replies. Or the process is being taken down. Nothing may be awaited.
            self._finish("CANCELLED")

    def admit(self, payload: bytes | None) -> None:
        """Reads what the metadata says and takes the call in. payload: the request message; None for a stream, whose
        messages are admitted one by one.

        Raises InvalidArgument, DeadlineExceeded (it was late on arrival), Unavailable (draining) or ResourceExhausted
        (refused for load, or for what its principal has taken).
        """
        request_id = traceparent = stamp = principal = tier = priority = ""
        for key, value in self._context.invocation_metadata():
            if key == REQUEST_ID_HEADER:
                request_id = value
            elif key == TRACEPARENT_HEADER:
                traceparent = value
            elif key == DEADLINE_HEADER:
                stamp = value
            elif key == PRINCIPAL_HEADER:
                principal = value
            elif key == TIER_HEADER:
                tier = value
            elif key == PRIORITY_HEADER:
                priority = value
        self.correlation = Correlation(
            accept_request_id(request_id) if request_id else new_request_id(), traceparent
        )
        set_correlation(self.correlation)
        method = self.method
        if method.infrastructure:
            return
        remaining_s = self._context.time_remaining()
        deadline = Deadline.from_parts(remaining_s, stamp, method.settings)
        self.deadline = deadline
        set_deadline(deadline)
        self.report = Report()
        set_report(self.report)
        caller = ANONYMOUS
        if principal or priority:
            urgency = read_priority(priority) if priority else Priority.INTERACTIVE
            caller = Caller(principal, tier, urgency)
            set_caller(caller)
        method.gate.enter(self)
        left_s = deadline.at_s - self.started_s
        if left_s <= 0:
            raise DeadlineExceeded("the call was on its way")
        if payload is None:
            set_door(method.door)
        else:
            self._permit = method.door.enter(read_model_name(payload), len(payload), caller, self.started_s)
        self._task = asyncio.current_task()
        if remaining_s is None or remaining_s > left_s + _FRONT_IS_EXACT_S:
            # asyncio's clock is time.monotonic, as the deadline's.
            self._timer = asyncio.get_running_loop().call_at(deadline.at_s, self.end, Ending.DEADLINE)

    def end(self, ending: Ending) -> None:
        """Cancels the call for a reason of ours; it is answered with the matching status."""
        if self._ending is None and self._task is not None:
            self._ending = ending
            self._task.cancel()

    def _finish(self, code: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        method = self.method
        method.gate.leave(self)
        now_s = time.monotonic()
        duration_s = now_s - self.started_s
        if self._permit is not None:
            self._permit.leave(self.report, now_s, answered=code == "OK")
        method.metrics.finish(code, duration_s)
        method.log.write(code, duration_s, self.correlation)

    async def _fail(self, error: Exception | asyncio.CancelledError) -> None:
        """Ends the call with the status that `error` stands for. Returns only if the front is to see `error` itself."""
        context = self._context
        if isinstance(error, asyncio.CancelledError):
            if self._ending is None:
                # The client left, or the front ended the call at the client's own deadline.
                late = self.deadline is not None and self.deadline.remaining_s() <= _FRONT_IS_EXACT_S
                self._finish("DEADLINE_EXCEEDED" if late else "CANCELLED")
                return
            error = self._take_back()
        if isinstance(error, grpc.aio.AbortError):
            self._say()
            self._finish(_get_name(context.code()))
            return
        if isinstance(error, NotImplementedError) and context.code() is grpc.StatusCode.UNIMPLEMENTED:
            # What generated code does for a method that a servicer leaves out.
            error = Unimplemented(f"{self.method.service}/{self.method.name} is declared and not served here")
        if not isinstance(error, SensoriumError):
            get_logger("rpc").error(
                "unexpected error", service=self.method.service, method=self.method.name, exc_info=error
            )
            let_go(error)
            error = Internal(self.correlation.request_id)
        self._finish(error.code.name)
        let_go(error)
        trailers: list[tuple[str, str | bytes]] = [(DETAILS_TRAILER, error.to_status().SerializeToString())]
        if (pushback_ms := error.pushback_ms) is not None:
            trailers.append((PUSHBACK_TRAILERS[self.method.settings.front], str(pushback_ms)))
        self._say()
        try:
            # Raises.
            await context.abort(error.code, error.message, (*(context.trailing_metadata() or ()), *trailers))
        except grpc.aio.InternalError:
            # grpcio's way to say that the client left before it was answered; as an error it would be logged with a stack.
            raise asyncio.CancelledError from None

    def _say(self) -> None:
        """Puts the report into the trailers, behind those that the handler set."""
        report = self.report
        if report is None or not (said := report.to_trailers()):
            return
        before = self._context.trailing_metadata()
        self._context.set_trailing_metadata((*before, *said) if before else said)

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
