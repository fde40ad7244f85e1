"""The door of a process: bytes, budgets and the limit of the model that is asked for, in this order, for every call.

Here: permits. Not here: when a model is overloaded (`limit.py`), what a principal has left (`ledger.py`), deadlines (a
call that is late is refused before it comes here; one that cannot be on time, by the batcher, which knows its cost).
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from types import TracebackType
from typing import Self

from shared.errors import QUEUE_FULL, ResourceExhausted
from shared.rpc.admission.ledger import Account, Ledger
from shared.rpc.admission.limit import Limit
from shared.rpc.admission.settings import AdmissionSettings
from shared.rpc.caller import Caller, Priority, current_caller
from shared.rpc.report import Report, current_report, set_report

__all__ = ["Admission", "Door", "Permit", "admit_message", "read_model_name", "set_door"]

# First byte of a message whose field 1 is set and of a length-delimited type.
_FIELD_1 = 0x0A
# A length below this takes one byte; no model has a longer name.
_ONE_BYTE = 0x80
# Names of models that a door remembers. A model has three, and two more for each of its graphs.
_MOST_NAMES = 256
# What a caller is told whom the bytes or the number of calls keep out: about the time of a large call.
_RETRY_S = 0.5


def read_model_name(payload: bytes) -> bytes:
    """The name of the model in a request message, before it is parsed; empty where the message names none.

    It is field 1 of every request that names a model, and serializers write fields in their order. Who writes field 1 twice
    is served by the model of the last one; what he is let in by is the first one's limit.
    """
    if len(payload) > 1 and payload[0] == _FIELD_1 and payload[1] < _ONE_BYTE:
        return payload[2 : 2 + payload[1]]
    return b""


class Admission:
    """What is in flight in this process, and the doors of its methods."""

    def __init__(self, settings: AdmissionSettings) -> None:
        self.settings = settings
        self.ledger = Ledger(settings.principal, settings.tiers)
        self.in_flight = 0
        self.bytes_in_flight = 0
        self.doors: list[Door] = []

    def open_door(self, service: str, method: str) -> Door:
        """The door of one method, to be made once."""
        door = Door(self, f"{service}/{method}")
        self.doors.append(door)
        return door


class Door:
    """The way into one method: one limit for each model that it serves."""

    def __init__(self, admission: Admission, method: str) -> None:
        self.method = method
        self.refused: dict[str, int] = {}  # reason -> calls
        self.limits: dict[str, Limit] = {}  # by the model's public name, once it has answered
        self._admission = admission
        # By the name that callers use: the same limit for "", `minilm` and `nlp/minilm`, once the model has answered to it.
        self._by_name: dict[bytes, Limit] = {}
        # Of all names that no model has answered to: made-up ones take no memory, and have no limits of their own to fill.
        self._others: Limit | None = None
        self._preparing: set[str] = set()  # models that were seen to prepare another's input
        # Of calls without a name, once they are answered by several models, each by what else is in the call.
        self._unnamed: Limit | None = None

    @property
    def names(self) -> int:
        """Names of models that are remembered."""
        return len(self._by_name)

    def enter(self, name: bytes, n_bytes: int, caller: Caller, now_s: float) -> Permit:
        """A permit for one call or message; `Permit.leave` gives it back.

        name: as `read_model_name` gives it. n_bytes: of the request message.

        Raises ResourceExhausted, which says when to come back.
        """
        admission = self._admission
        settings = admission.settings
        if admission.in_flight >= settings.max_in_flight:
            raise self._refuse(
                "calls in flight on this replica",
                f"{settings.max_in_flight} at a time",
                _RETRY_S,
                "OVERLOADED",
            )
        # One alone passes whatever its size: that has a bound of its own.
        if admission.bytes_in_flight + n_bytes > settings.max_bytes_in_flight and admission.in_flight:
            limit = f"{settings.max_bytes_in_flight} bytes at a time"
            raise self._refuse("request messages in flight on this replica", limit, _RETRY_S, "OVERLOADED")
        account = None
        if not admission.ledger.unlimited:
            try:
                account = admission.ledger.open(caller.principal, caller.tier, now_s)
            except ResourceExhausted as error:
                self._count(error.reason)
                raise
        limit_of_model = self._by_name.get(name)
        if limit_of_model is None and not name:
            limit_of_model = self._unnamed
        if limit_of_model is None:
            limit_of_model = self._others = self._others or self._make_limit(now_s)
        urgent = caller.priority is Priority.INTERACTIVE
        if not limit_of_model.enter(caller.principal, now_s, urgent=urgent):
            if account is not None:
                account.in_flight -= 1
            raise self._refuse(
                f"calls of {self._show(name)} in flight",
                f"{limit_of_model.bound} at a time, as long as more are sent than it can answer",
                round(limit_of_model.suggest_retry_s(), 3),
                "OVERLOADED",
            )
        admission.in_flight += 1
        admission.bytes_in_flight += n_bytes
        return Permit(
            admission, self, name, limit_of_model, account, n_bytes, caller.principal, urgent, now_s
        )

    def learn(self, name: bytes, models: tuple[str, ...], now_s: float) -> None:
        """Puts a name under the limit of the model that has answered to it; models: as a report has them."""
        # The last one is the one that was asked for: those before it prepared its input.
        *before, model = (one.partition("@")[0] for one in models)
        self._preparing.update(before)
        known = self._by_name.get(name)
        if known is not None and known.model not in self._preparing:
            if not name and model not in self._preparing:
                # One model's load must not keep another's callers out.
                del self._by_name[name]
                self._unnamed = self._make_limit(now_s)
            return
        if not _is_name_of(name, model) or (not name and self._unnamed is not None):
            return
        limit = self.limits.get(model)
        if limit is None:
            if self._others is not None and not self._others.overloaded:
                # Those who came before the first answer wait for this model; where it is one of several, for the most part.
                limit, self._others = self._others, None
            else:
                limit = self._make_limit(now_s)
            limit.model = model
            self.limits[model] = limit
        if len(self._by_name) >= _MOST_NAMES:
            # Its next answer brings it back, and its model keeps the limit.
            del self._by_name[next(iter(self._by_name))]
        self._by_name[name] = limit

    def _make_limit(self, now_s: float) -> Limit:
        settings = self._admission.settings
        return Limit(settings.min_in_flight, settings.max_queue_wait_s, now_s)

    def _show(self, name: bytes) -> str:
        return f"model {name.decode('ascii', 'backslashreplace')}" if name else self.method

    def _refuse(self, what: str, limit: str, retry_s: float, reason: str) -> ResourceExhausted:
        self._count(reason)
        return ResourceExhausted(what, limit=limit, retry_after_s=retry_s, reason=reason)

    def _count(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1


def _is_name_of(name: bytes, model: str) -> bool:
    """Whether callers may use a name for a model: none, its own without or with the service, either with a graph's."""
    bare = model.partition("/")[2].encode()
    rest = name.removeprefix(model.partition("/")[0].encode() + b"/")
    return not name or rest == bare or rest.startswith(bare + b".")


class Permit:
    """Leave to work on one call or one message of a stream; given back by `leave`, once."""

    __slots__ = (
        "_account",
        "_admission",
        "_door",
        "_entered_s",
        "_limit",
        "_n_bytes",
        "_name",
        "_principal",
        "_urgent",
    )

    def __init__(
        self,
        admission: Admission,
        door: Door,
        name: bytes,
        limit: Limit,
        account: Account | None,
        n_bytes: int,
        principal: str,
        urgent: bool,
        entered_s: float,
    ) -> None:
        self._admission = admission
        self._door = door
        self._name = name
        self._limit = limit
        self._account = account
        self._n_bytes = n_bytes
        self._principal = principal
        self._urgent = urgent
        self._entered_s = entered_s

    def leave(self, report: Report | None, now_s: float, *, answered: bool) -> None:
        """Gives the permit back. report: what the call took; answered: it ended well, so that its times say something."""
        admission, limit = self._admission, self._limit
        admission.in_flight -= 1
        admission.bytes_in_flight -= self._n_bytes
        limit.leave(self._principal, now_s, urgent=self._urgent)
        if report is not None and report.models:
            if answered:
                waited_s = report.queue_s
                limit.record(waited_s, now_s - self._entered_s - waited_s, now_s)
            if self._account is not None:
                # Also for a call that failed: what it took is gone.
                self._account.charge(report.cost_s)
            if report.models[-1].partition("@")[0] != limit.model:
                self._door.learn(self._name, report.models, now_s)
        if self._account is not None:
            self._account.in_flight -= 1

    def overflow(self, now_s: float) -> None:
        """Says, before it is given back, that a queue behind the door was full."""
        self._limit.overflow(now_s)


class Admitted:
    """One message of a stream at work: a permit and a report of its own, for the task that works on it."""

    __slots__ = ("_call", "_permit", "report")

    def __init__(self, permit: Permit) -> None:
        self._permit = permit
        self._call = current_report()
        self.report = Report()

    def __enter__(self) -> Self:
        set_report(self.report)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del traceback
        set_report(self._call)
        if self._call is not None:
            self._call.add_all(self.report)
        now_s = time.monotonic()
        if isinstance(error, ResourceExhausted) and error.reason == QUEUE_FULL:
            self._permit.overflow(now_s)
        self._permit.leave(self.report, now_s, answered=error is None)


_door: ContextVar[Door | None] = ContextVar("sensorium_door", default=None)


def set_door(door: Door) -> None:
    """Binds the current task to the door of its call, whose messages are admitted one by one."""
    _door.set(door)


def admit_message(model_name: str, n_bytes: int) -> Admitted:
    """Takes a permit for one message of a request stream: `with admit_message(request.model_name, size): …`.

    Raises ResourceExhausted, as a call would. Raises LookupError outside of a call whose requests are a stream.
    """
    door = _door.get()
    if door is None:
        raise LookupError("no request stream in this task")
    return Admitted(door.enter(model_name.encode(), n_bytes, current_caller(), time.monotonic()))
