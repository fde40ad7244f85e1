"""How many calls of one model may be in flight: none too few to keep it busy, none that would only wait.

Two regimes. Calm: everybody is let in, a burst may queue. Overload begins once calls wait longer than `max_queue_wait_s` on
average while more than `min_in_flight` are in flight: then the limit falls to twice the calls that the model
has in service at a time (one batch runs, the next one forms), and rises again only if the model is found without work. It
ends when nobody is refused any more. So a fixed number of callers may use up the whole queue, and a load that grows without
end meets short waits instead of a full queue.

The number in service is measured, by Little's law: seconds that calls were served for (their time without their waits) per
second. It is 1 for a graph that runs alone, the rows of a batch for one that batches, and does not change with the
machine's speed. A limit by additive increase and multiplicative decrease over the measured waits needs tens of windows to
get down, and swings between one waiting call and three, which is half of the latency of a model that runs for 20 ms.

Here: one model's limit; the clock is the caller's. Not here: bytes and budgets (`admission.py`, `ledger.py`).
"""

from __future__ import annotations

# A window of measurement lasts at least so long and has so many answers: below, one slow call would decide.
_WINDOW_S = 0.25
_WINDOW_ANSWERS = 4
# One batch runs while the next one forms.
_GAIN = 2.0
# Of a window in overload: without work for more than this, the limit is too low (it doubles); for less than that, there is
# room to lower it. Between the two it stays.
_STARVED, _FED = 0.10, 0.02
# A model has no work when it serves fewer than this share of what it can.
_BUSY_SHARE = 0.75
# Windows without a refusal after which overload is over.
_QUIET_WINDOWS = 2
# How much of the newest window goes into the number in service.
_NEWEST = 0.2
# Bounds of the advice when to come back. Refused callers return within it, whatever their number.
_MIN_RETRY_S, _MAX_RETRY_S = 0.02, 5.0
# Fractions of the golden ratio fall evenly between 0 and 1: callers who are refused together do not return together.
_GOLDEN = 0.6180339887498949


class Limit:
    """The calls of one model in flight, by principal, and the limit that they meet. Used on one thread."""

    __slots__ = (
        "_answers",
        "_counted_at_s",
        "_gain",
        "_held",
        "_max_wait_s",
        "_min_in_flight",
        "_peak",
        "_quiet",
        "_refused",
        "_refused_last",
        "_retries",
        "_s_per_answer",
        "_served_s",
        "_starved_below",
        "_starved_s",
        "_waited_s",
        "_window_at_s",
        "bound",
        "in_flight",
        "in_service",
        "model",
        "overloaded",
        "urgent",
    )

    def __init__(self, min_in_flight: int, max_queue_wait_s: float, now_s: float) -> None:
        self._min_in_flight = min_in_flight
        self._max_wait_s = max_queue_wait_s
        self.model = ""  # public name, once it has answered
        self.overloaded = False
        self.bound = 0  # counts only in overload
        self.in_flight = 0
        self.urgent = 0  # those of them that are INTERACTIVE
        self.in_service = 0.0  # mean in overload
        self._held: dict[str, int] = {}  # principal -> calls in flight
        self._gain = _GAIN
        self._quiet = 0
        self._refused_last = 0.0  # a second, in the last window
        self._retries = 0.0
        self._s_per_answer = 0.0  # in the last window
        self._peak = 0
        self._starved_below = 0.0
        self._counted_at_s = now_s
        self._start_window(now_s)

    def enter(self, principal: str, now_s: float, *, urgent: bool) -> bool:
        """Takes a call in, or says that it must be refused. urgent: it is INTERACTIVE and not BATCH."""
        held = self._held
        mine = held.get(principal, 0)
        if self.overloaded:
            self._count_starved(now_s)
            if not self._has_room(mine, urgent=urgent):
                self._refused += 1
                return False
        held[principal] = mine + 1
        self.in_flight += 1
        if urgent:
            self.urgent += 1
        if self.in_flight > self._peak:
            self._peak = self.in_flight
        return True

    def leave(self, principal: str, now_s: float, *, urgent: bool) -> None:
        """Lets a call go that was taken in."""
        if self.overloaded:
            self._count_starved(now_s)
        held = self._held
        mine = held[principal] - 1
        if mine:
            held[principal] = mine
        else:
            del held[principal]
        self.in_flight -= 1
        if urgent:
            self.urgent -= 1

    def record(self, waited_s: float, served_s: float, now_s: float) -> None:
        """Counts a call that was answered: seconds that it waited in queues, and seconds of the rest of its time."""
        self._waited_s += waited_s
        self._served_s += served_s
        self._answers += 1
        if now_s - self._window_at_s >= _WINDOW_S and self._answers >= _WINDOW_ANSWERS:
            self._close_window(now_s)

    def suggest_retry_s(self) -> float:
        """When a call that is refused now should come back: once those in flight are through, and the later the more
        callers wait outside.
        """
        drain_s = self.in_flight * self._s_per_answer
        # So many times what the model answers is sent away: spread over as many seconds, it comes back at its pace.
        crowd_s = self._refused_last * self._s_per_answer
        self._retries = (self._retries + _GOLDEN) % 1.0
        retry_s = max(drain_s, crowd_s) * (0.5 + self._retries)
        return min(max(retry_s, _MIN_RETRY_S), _MAX_RETRY_S)

    def _has_room(self, mine: int, *, urgent: bool) -> bool:
        # A call competes with those of its own urgency and with more urgent ones: what is less urgent lets it pass in the
        # queue.
        ahead = self.urgent if urgent else self.in_flight
        if ahead < self.bound:
            return True
        # At the limit, who has less than his share still gets in, and who has more does not: up to twice the limit,
        # and for BATCH only in the room that INTERACTIVE leaves.
        sharing = len(self._held) + (not mine)
        return (
            mine + 1 <= max(1.0, self.bound / sharing)
            and sharing > 1
            and ahead < 2 * self.bound
            and self.urgent < (2 * self.bound if urgent else self.bound)
        )

    def _count_starved(self, now_s: float) -> None:
        if self.in_flight < self._starved_below:
            self._starved_s += now_s - self._counted_at_s
            if not self.in_flight and now_s - self._counted_at_s > _WINDOW_S:
                # Nobody came for so long: there is no overload.
                self._calm()
                self._start_window(now_s)
        self._counted_at_s = now_s

    def _start_window(self, now_s: float) -> None:
        self._window_at_s = now_s
        self._answers = 0
        self._waited_s = 0.0
        self._served_s = 0.0
        self._starved_s = 0.0
        self._refused = 0
        self._peak = self.in_flight

    def _close_window(self, now_s: float) -> None:
        elapsed_s = now_s - self._window_at_s
        served = self._served_s / elapsed_s
        self._s_per_answer = elapsed_s / self._answers
        self._refused_last = self._refused / elapsed_s
        if self.overloaded:
            self._adapt(served, self._starved_s / elapsed_s)
        elif self._peak > self._min_in_flight and self._waited_s > self._max_wait_s * self._answers:
            self.overloaded = True
            self._gain = _GAIN
            self._quiet = 0
            self.in_service = served
            self._counted_at_s = now_s
            self._set_bound()
        self._start_window(now_s)

    def _adapt(self, served: float, starved: float) -> None:
        self._quiet = 0 if self._refused else self._quiet + 1
        if self._quiet >= _QUIET_WINDOWS:
            self._calm()
            return
        if starved > _STARVED:
            self._gain *= 2.0
        else:
            self.in_service += _NEWEST * (served - self.in_service)
            if starved < _FED:
                self._gain = max(_GAIN, 0.8 * self._gain)
        self._set_bound()

    def _set_bound(self) -> None:
        bound = max(2, round(self._gain * self.in_service))
        # So high a limit refuses nobody whom calm would not refuse again.
        if self._gain > _GAIN and bound > self._min_in_flight:
            self._calm()
            return
        self.bound = bound
        self._starved_below = max(_BUSY_SHARE * self.in_service, 0.5)

    def _calm(self) -> None:
        self.overloaded = False
        self._gain = _GAIN
