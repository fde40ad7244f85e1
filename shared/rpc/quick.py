"""Calls that are answered within a turn or two of the event loop: without a task, and with nothing bound to one.

A servicer may offer a shortcut for a unary method. It looks at a call's message and says whether it can answer it in such
a way; all others go the usual way (`interceptor.py`, `call.py`), and so do those that it could not answer after all. The
same doors, deadlines, counts, log lines and trailers hold on both ways. An asyncio task, three context variables, five
coroutines and a timer are 12 of the 25 µs that a call of a tiny model takes on the event loop.

Here: what of `call.py` such a call needs. Only the native front offers it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from shared.errors import DeadlineExceeded, SensoriumError
from shared.rpc.admission.admission import Permit, read_model_name
from shared.rpc.call import HEADERS, REQUEST_ID_HEADER, TRACEPARENT_HEADER
from shared.rpc.caller import (
    ANONYMOUS,
    ATTEMPT_HEADER,
    PRINCIPAL_HEADER,
    PRIORITY_HEADER,
    TIER_HEADER,
    Caller,
)
from shared.rpc.deadline import DEADLINE_HEADER, Deadline
from shared.rpc.gate import Ending
from shared.rpc.method import Method
from shared.rpc.report import Report
from shared.telemetry import tracing
from shared.telemetry.correlation import Correlation

if TYPE_CHECKING:
    # A process on grpcio's front needs no Rust.
    from pygrpc_native import NativeGrpcFront

__all__ = ["Details", "Quick", "QuickCall", "Shortcut"]

# What the native front tells of a call: metadata, peer, seconds to the client's deadline.
Details: TypeAlias = tuple[tuple[tuple[str, str | bytes], ...], str, float | None]
# Has a call refused on the usual way, with this error.
Refuse: TypeAlias = Callable[[int, bytes, Details, BaseException], None]


class Shortcut(Protocol):
    """What a servicer offers. Its methods are called on the event loop and must not raise."""

    def find(self, payload: bytes) -> Any | None:
        """By what a call with this message can be answered at once; None if it cannot be."""

    def begin(self, found: Any, payload: bytes, call: QuickCall) -> None:
        """Answers it, once and soon, by `call.reply` or `call.fail`."""

    def finish(self) -> None:
        """Called in the same turn, when all calls are begun that came together."""


class Quick:
    """The shortcut of one method."""

    def __init__(self, method: Method, shortcut: Shortcut) -> None:
        self.method = method
        self.finish = shortcut.finish
        self._shortcut = shortcut

    def take(
        self, front: NativeGrpcFront, call_id: int, payload: bytes, details: Details, refuse: Refuse
    ) -> bool:
        """Takes a call, if the shortcut can answer it; False: it goes the usual way."""
        found = self._shortcut.find(payload)
        if found is None or self.method.gate.closed:
            return False
        sent = {key: value for key, value in details[0] if key in HEADERS}
        # What is urgent to nobody, or has cost a replica its life, is looked at on the usual way.
        if PRIORITY_HEADER in sent or sent.get(ATTEMPT_HEADER, "1") != "1":
            return False
        # So is what is recorded: its parts are.
        if TRACEPARENT_HEADER in sent and tracing.wants(Correlation("", str(sent[TRACEPARENT_HEADER]))):
            return False
        call = QuickCall(self.method, front, call_id, payload, details, refuse)
        try:
            call.admit(sent, details[2])
        except SensoriumError as error:
            call.fail(error)
        else:
            self._shortcut.begin(found, payload, call)
        return True


class QuickCall:
    """One such call."""

    __slots__ = (
        "_details",
        "_done",
        "_front",
        "_id",
        "_method",
        "_payload",
        "_permit",
        "_refuse",
        "_sent",
        "caller",
        "deadline",
        "report",
        "started_s",
    )

    def __init__(
        self,
        method: Method,
        front: NativeGrpcFront,
        call_id: int,
        payload: bytes,
        details: Details,
        refuse: Refuse,
    ) -> None:
        self.started_s = time.monotonic()
        self.caller = ANONYMOUS
        self.deadline: Deadline
        self.report = Report()
        self._method = method
        self._front = front
        self._id = call_id
        self._payload = payload
        self._details = details
        self._refuse = refuse
        self._permit: Permit | None = None
        self._sent: dict[str, Any] = {}
        self._done = False
        method.metrics.started += 1

    def admit(self, sent: dict[str, Any], remaining_s: float | None) -> None:
        """As `Call.admit`."""
        method, started_s = self._method, self.started_s
        if sent:
            self._sent = sent
            if PRINCIPAL_HEADER in sent:
                self.caller = Caller(sent[PRINCIPAL_HEADER], sent.get(TIER_HEADER, ""))
        self.deadline = deadline = Deadline.from_parts(
            remaining_s, sent.get(DEADLINE_HEADER, ""), method.settings, started_s
        )
        method.gate.enter(self)
        if deadline.at_s <= started_s:
            raise DeadlineExceeded("the call was on its way")
        payload = self._payload
        self._permit = method.door.enter(read_model_name(payload), len(payload), self.caller, started_s)

    def reply(self, payload: bytes) -> None:
        """Ends the call well; what it took is in its report."""
        if self._done:
            return
        now_s = time.monotonic()
        method = self._method
        trailers: tuple[tuple[str, str | bytes], ...]
        trailers = (*self.report.to_trailers(), method.load.trailer(now_s))
        self._front.respond(self._id, payload, None, trailers)
        self._leave(now_s, answered=True)
        duration_s = now_s - self.started_s
        method.metrics.finish("OK", duration_s)
        if not method.log.passes_over(duration_s):
            method.log.write_line("OK", duration_s, self._correlate())

    def fail(self, error: BaseException) -> None:
        """Ends the call with an error: on the usual way, which knows how."""
        if self._done:
            return
        self._leave(time.monotonic(), answered=False)
        self._method.metrics.started -= 1
        self._refuse(self._id, self._payload, self._details, error)

    def end(self, ending: Ending) -> None:
        """Called at the end of the drain."""
        self.fail(self._method.gate.make_refusal())

    def _leave(self, now_s: float, *, answered: bool) -> None:
        self._done = True
        self._method.gate.leave(self)
        if self._permit is not None:
            self._permit.leave(self.report, now_s, answered=answered)

    def _correlate(self) -> Correlation:
        sent = self._sent
        return Correlation.of(sent.get(REQUEST_ID_HEADER, ""), sent.get(TRACEPARENT_HEADER, ""))
