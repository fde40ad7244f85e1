"""The instant by which a call must be answered: one value, made at the edge and carried to the batch slot.

The gateway stamps an absolute deadline, so that a retry does not start the clock again; `grpc-timeout` would.
"""

from __future__ import annotations

import math
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from shared.errors import DeadlineExceeded, InvalidArgument
from shared.rpc.settings import RpcSettings
from shared.telemetry.correlation import current_request_id

__all__ = [
    "DEADLINE_HEADER",
    "Deadline",
    "begin_message",
    "current_deadline",
    "current_request_id",
    "set_deadline",
    "set_message_timeout",
]

# Milliseconds since the Unix epoch, stamped by the gateway.
DEADLINE_HEADER = "x-sensorium-deadline"


class TimedCall(Protocol):
    """The two things a deadline is made of; grpc's ServicerContext on either front."""

    def time_remaining(self) -> float | None:
        """Seconds left by grpc-timeout; None, infinite or huge without one."""

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """The request's metadata."""


@dataclass(slots=True, unsafe_hash=True)
class Deadline:
    """An instant on `time.monotonic`'s clock, in seconds. Never changed; frozen, each would take half a microsecond more."""

    at_s: float

    @classmethod
    def after(cls, timeout_s: float) -> Deadline:
        """The instant `timeout_s` from now."""
        return cls(time.monotonic() + timeout_s)

    @classmethod
    def of(cls, context: TimedCall, settings: RpcSettings) -> Deadline:
        """The call's deadline: the earlier of grpc-timeout and the gateway's stamp, or the default if it has
        neither; never further off than the maximum. Raises InvalidArgument if the stamp is no number.
        """
        stamp = ""
        for key, value in context.invocation_metadata():
            if key == DEADLINE_HEADER:
                stamp = str(value)
        return cls.from_parts(context.time_remaining(), stamp, settings, time.monotonic())

    @classmethod
    def from_parts(
        cls, remaining_s: float | None, stamp: str, settings: RpcSettings, now_s: float
    ) -> Deadline:
        """As `of`, from the seconds left by grpc-timeout, the text of the gateway's stamp (empty: none) and the time on
        `time.monotonic`'s clock.
        """
        # Without a deadline grpcio says None, and the native front a huge number.
        timeout_s = settings.max_timeout_s
        if remaining_s is not None and remaining_s < timeout_s:
            timeout_s = remaining_s
        elif not stamp and (remaining_s is None or remaining_s > _NEVER_S):
            timeout_s = min(timeout_s, settings.default_timeout_s)
        if stamp:
            # Both clocks are read here, once, so that the stamp's wall-clock time becomes monotonic.
            stamped_s = _parse_stamp(stamp) - time.time()
            if stamped_s < timeout_s:
                timeout_s = stamped_s
        return cls(now_s + timeout_s)

    @classmethod
    def of_stream(cls, remaining_s: float | None, stamp: str, now_s: float) -> Deadline:
        """As `from_parts`, for a call with a stream of requests: however far off it lies, and `NEVER` if it has neither."""
        timeout_s = math.inf if remaining_s is None or remaining_s > _NEVER_S else remaining_s
        if stamp:
            timeout_s = min(timeout_s, _parse_stamp(stamp) - time.time())
        return NEVER if timeout_s == math.inf else cls(now_s + timeout_s)

    def remaining_s(self) -> float:
        """Seconds left; negative once it has passed."""
        return self.at_s - time.monotonic()

    @property
    def expired(self) -> bool:
        """Whether it has passed."""
        return time.monotonic() >= self.at_s

    def check(self, where: str) -> None:
        """Raises DeadlineExceeded if it has passed. where: what was being done, e.g. `waiting for a batch
        slot`.
        """
        if self.expired:
            raise DeadlineExceeded(where)


# A stream of requests without a deadline lasts as long as its client wants; each of its messages has one, see
# `begin_message`.
NEVER = Deadline(math.inf)
# A year: no caller means that, so it stands for "no deadline".
_NEVER_S = 365 * 24 * 3600.0

_current: ContextVar[Deadline | None] = ContextVar("sensorium_deadline", default=None)
_message_timeout_s: ContextVar[float | None] = ContextVar("sensorium_message_timeout", default=None)


def set_deadline(deadline: Deadline) -> None:
    """Binds the current task, and those it starts, to a deadline."""
    _current.set(deadline)


def current_deadline() -> Deadline:
    """Deadline of the call this task works for. Raises LookupError outside of a call: give one explicitly
    there.
    """
    deadline = _current.get()
    if deadline is None:
        raise LookupError(
            "no call in this task: make a Deadline with Deadline.after(timeout_s) and pass it on"
        )
    return deadline


def set_message_timeout(timeout_s: float) -> None:
    """Sets how long each message of the stream that the current task answers may take at most."""
    _message_timeout_s.set(timeout_s)


def begin_message() -> Deadline:
    """Binds the current task to the deadline of one message of a stream: the stream's own, or one from now where
    `set_message_timeout` sets an earlier one.
    """
    deadline, timeout_s = current_deadline(), _message_timeout_s.get()
    if timeout_s is not None:
        own = Deadline.after(timeout_s)
        if own.at_s < deadline.at_s:
            _current.set(own)
            return own
    return deadline


def _parse_stamp(stamp: str) -> float:
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 15):
        raise InvalidArgument(
            DEADLINE_HEADER,
            expected="milliseconds since the Unix epoch",
            got=repr(stamp[:40]),
            fix="leave it to the gateway",
        )
    return int(stamp) / 1000
