"""What ties one call's log lines together and to its caller's: the request id and the W3C trace context.

Set once per call by `shared.rpc`, read by the log and by our own onward calls. No spans are recorded here.
"""

from __future__ import annotations

import itertools
import os
import re
from contextvars import ContextVar
from dataclasses import dataclass

# https://www.w3.org/TR/trace-context/#traceparent-header, version 00; a later version may carry more fields.
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)
# What a request id from outside may look like; anything else is replaced, so that it cannot forge a log line.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
# A random start for the process and a counter: unique, and a tenth of the cost of a UUID.
_PREFIX = os.urandom(6).hex()
_COUNTER = itertools.count(1)


@dataclass(frozen=True, slots=True)
class TraceParent:
    """One position in a distributed trace: ids in lower-case hex, and whether the trace is recorded."""

    trace_id: str
    span_id: str
    sampled: bool

    def to_header(self) -> str:
        """Renders the value of a `traceparent` header."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def make_child(self) -> TraceParent:
        """A new span of the same trace, for an onward call."""
        return TraceParent(self.trace_id, os.urandom(8).hex(), self.sampled)


def parse_traceparent(header: str) -> TraceParent | None:
    """Reads a `traceparent` header; None if it is malformed, which by the standard means: as if it were not
    there.
    """
    found = _TRACEPARENT.fullmatch(header)
    if found is None:
        return None
    return TraceParent(found[1], found[2], bool(int(found[3], 16) & 1))


class Correlation:
    """Request id and raw traceparent of one call; the latter is parsed only if somebody asks."""

    __slots__ = ("_traceparent", "request_id")

    def __init__(self, request_id: str = "", traceparent: str = "") -> None:
        self.request_id = request_id
        self._traceparent = traceparent

    @classmethod
    def of(cls, request_id: str, traceparent: str) -> Correlation:
        """What a caller sent, either of which may be empty: his request id if it is harmless, else a new one."""
        return cls(accept_request_id(request_id) if request_id else new_request_id(), traceparent)

    @property
    def trace(self) -> TraceParent | None:
        """The caller's position in its trace, if it sent one."""
        return parse_traceparent(self._traceparent) if self._traceparent else None


_NONE = Correlation()
_current: ContextVar[Correlation] = ContextVar("sensorium_correlation", default=_NONE)


def new_request_id() -> str:
    """A request id that no other call of this or another process has."""
    return f"{_PREFIX}-{next(_COUNTER):x}"


def accept_request_id(sent: str) -> str:
    """The caller's request id if it is 1 to 128 harmless characters, else a new one."""
    return sent if _REQUEST_ID.fullmatch(sent) else new_request_id()


def set_correlation(correlation: Correlation) -> None:
    """Binds the current task, and those it starts, to a call."""
    _current.set(correlation)


def current_correlation() -> Correlation:
    """The call this task works for; empty ids outside of a call."""
    return _current.get()


def current_request_id() -> str:
    """Request id of the call this task works for; empty outside of a call."""
    return _current.get().request_id
