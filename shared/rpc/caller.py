"""Who calls, and how urgently: read once from a call's metadata, and kept for everything that is done for the call.

The gateway stamps the principal and the tier out of a verified token; a replica that is called directly knows nobody by
name. A caller may only lower his own priority, so that any value he sends can be trusted.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum

from shared.errors import InvalidArgument

__all__ = ["ANONYMOUS", "Caller", "Priority", "current_caller", "read_priority", "set_caller"]

PRINCIPAL_HEADER = "x-sensorium-principal"
TIER_HEADER = "x-sensorium-tier"
PRIORITY_HEADER = "x-sensorium-priority"
# The model that the gateway authorised the call for, which in a stream is the first message's.
MODEL_HEADER = "x-sensorium-model"
# Envoy's: 1, and one more each time that it sends a call to another replica.
ATTEMPT_HEADER = "x-envoy-attempt-count"


class Priority(IntEnum):
    """What goes first where work waits; the lower number does."""

    INTERACTIVE = 0
    BATCH = 1


@dataclass(frozen=True, slots=True)
class Caller:
    """principal: the token's subject, "" where there is none; tier: its rate limits' name, "" likewise.

    retried: whether the gateway has sent the call to another replica before, which did not answer it.
    """

    principal: str = ""
    tier: str = ""
    priority: Priority = Priority.INTERACTIVE
    retried: bool = False


ANONYMOUS = Caller()

_current: ContextVar[Caller] = ContextVar("sensorium_caller", default=ANONYMOUS)


def set_caller(caller: Caller) -> None:
    """Binds the current task, and those it starts, to a caller."""
    _current.set(caller)


def current_caller() -> Caller:
    """Caller of the call this task works for; `ANONYMOUS` outside of a call."""
    return _current.get()


def read_priority(value: str) -> Priority:
    """What the header says. Raises InvalidArgument for anything but `interactive` and `batch`."""
    try:
        return Priority[value.upper()]
    except KeyError:
        raise InvalidArgument(
            PRIORITY_HEADER,
            expected="`interactive` (the default) or `batch`",
            got=repr(value[:40]),
            fix="leave it out, or send one of the two",
        ) from None
