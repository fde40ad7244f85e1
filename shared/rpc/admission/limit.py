"""How many calls of one model may be in flight: none too few to keep it busy, none that would only wait.

Two regimes. Calm: everybody is let in, a burst may queue. Overload begins when more than `min_in_flight` calls are in
flight and one more would wait longer than `max_queue_wait_s`, at the pace at which a model with a queue was last seen
to answer; or when a queue behind the door was full. From then on the limit is twice the calls that the model has in
service at a time (one batch runs, the next one forms), and rises only while the model is found without work; of a tiny
model as many are let in as are answered in an instant, up to `min_in_flight`. It ends once nobody has been refused for
a while. So a fixed number of callers may use up the whole queue, and a load that grows without end meets short waits
instead of a full queue.

The number in service is measured, by Little's law: seconds that calls were served for (their time without their waits) per
second. It is 1 for a graph that runs alone, the rows of a batch for one that batches, and does not change with the
machine's speed. Additive increase and multiplicative decrease over the measured waits was tried against it, in the
simulation of the tests: at three times the capacity of a model of 20 ms its p99 was 60 ms instead of 40, and at 0.8 of the
capacity it refused one call in ten where this refuses none.

Here: one model's limit; the clock is the caller's. Not here: bytes and budgets (`admission.py`, `ledger.py`).
"""

from __future__ import annotations

from math import inf

# A window of measurement lasts at least so long and has so many answers: below, one slow call would decide.
_WINDOW_S = 0.25
_WINDOW_ANSWERS = 4
# One batch runs while the next one forms.
_GAIN = 2.0
# The last place is given so much of the time between two answers later than the one before it or than the last answer: who
# waits does so for three quarters of a run at most, and the model is without work for 4 % of the time, not 2, where calls
# come at random at three times what it can do.
_PATIENCE = 0.25
# Sixteen times as many as are in service wait for hardly less than everybody.
_MOST_GAIN = 32.0
# A queue that is over in so short a time is not worth a refusal: the callers of a tiny model, who answer to its replies at
# once, would be refused for as long as they call. Two runs of 20 ms.
_SHORT_S = 0.05
# The pace that this is told by follows one that has become worse by so much a window: one pause of the machine is no pace.
_WORSE = 1.25
# Of a window in overload: without work for more than this, the limit is too low (it doubles); for less than that, there is
# room to lower it. Between the two it stays.
_STARVED, _FED = 0.10, 0.02
# Weight of the newest window in that.
_NEWEST = 0.3
# A model has no work when it serves fewer than this share of what it can.
_BUSY_SHARE = 0.75
# Overload is over when nobody was refused, or nobody came, for so long. Less, and a load just above what the model can do
# would swing between the two regimes, with a full queue in each calm.
_QUIET_S = 5.0
# A model had a queue in a window when its calls waited for at least this share of the time in which they were served.
_QUEUED = 0.5
# How much of a window goes into the number in service. Batches that were not full say little of what the model can do.
_RISE, _FALL = 0.5, 0.05
# Bounds of the advice when to come back, on average: a refusal costs the caller some milliseconds, and most overloads last
# for a few seconds.
_MIN_RETRY_S, _MAX_RETRY_S = 0.05, 5.0
# Fractions of the golden ratio fall evenly between 0 and 1: callers who are refused together do not return together.
_GOLDEN = 0.6180339887498949


class Limit:
    """The calls of one model in flight, by principal, and the limit that they meet. Used on one thread."""

    __slots__ = (
        "_alarm",
        "_answers",
        "_busy_s_per_answer",
        "_counted_at_s",
        "_free",
        "_gain",
        "_held",
        "_max_wait_s",
        "_min_in_flight",
        "_moved_at_s",
        "_quiet_since_s",
        "_refused",
        "_refused_last",
        "_retries",
        "_s_per_answer",
        "_served_s",
        "_starved",
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
        self._free = 0  # places that are given at once
        self._alarm = inf  # calls in flight from which on one more would wait for too long
        self._quiet_since_s = now_s
        self._refused_last = 0.0  # a second, in the last window
        self._retries = 0.0
        self._s_per_answer = 0.0  # in the last window with a queue
        self._busy_s_per_answer = 0.0  # in overload, without the time in which nobody was there
        self._starved = 0.0  # share of the last windows
        self._starved_below = 0.0
        self._counted_at_s = now_s
        self._moved_at_s = now_s
        self._start_window(now_s)

    def enter(self, principal: str, now_s: float, *, urgent: bool) -> bool:
        """Takes a call in, or says that it must be refused. urgent: it is INTERACTIVE and not BATCH."""
        held = self._held
        mine = held.get(principal, 0)
        if self.in_flight >= self._alarm and not self.overloaded:
            self._begin_overload(now_s)
        # Not only when a window ends: after a burst, the next callers may be few.
        if self.overloaded and self._is_over(now_s):
            self._calm(now_s)
        if self.overloaded:
            self._count_starved(now_s)
            if not self._has_room(mine, now_s, urgent=urgent):
                self._refused += 1
                self._quiet_since_s = now_s
                return False
        self._moved_at_s = now_s
        held[principal] = mine + 1
        self.in_flight += 1
        if urgent:
            self.urgent += 1
        return True

    def leave(self, principal: str, now_s: float, *, urgent: bool) -> None:
        """Lets a call go that was taken in."""
        self._moved_at_s = now_s
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
        # The report's times overlap a little where models run side by side.
        self._served_s += max(served_s, 0.0)
        self._answers += 1
        if now_s - self._window_at_s >= _WINDOW_S and self._answers >= _WINDOW_ANSWERS:
            self._close_window(now_s)

    def overflow(self, now_s: float) -> None:
        """Counts a call that was let in and then refused by a queue behind the door."""
        if not self.overloaded and self.in_flight > self._min_in_flight and self.in_service:
            self._begin_overload(now_s)

    def suggest_retry_s(self) -> float:
        """When a call that is refused now should come back: once those in flight are through, and the later the more
        callers wait outside.
        """
        drain_s = self.in_flight * self._s_per_answer
        # So many times what the model answers is sent away: spread over as many seconds, it comes back at its pace.
        crowd_s = self._refused_last * self._s_per_answer
        self._retries = (self._retries + _GOLDEN) % 1.0
        return min(max(drain_s, crowd_s, _MIN_RETRY_S), _MAX_RETRY_S) * (0.5 + self._retries)

    def _has_room(self, mine: int, now_s: float, *, urgent: bool) -> bool:
        # A call competes with those of its own urgency and with more urgent ones: what is less urgent lets it pass in the
        # queue.
        ahead = self.urgent if urgent else self.in_flight
        if ahead < max(self._free, self.bound - 1) or (
            # The last place lets one more wait while one is served, and had better not be given for all of that time.
            ahead < self.bound and now_s - self._moved_at_s >= _PATIENCE * self._s_per_answer
        ):
            return True
        # At the limit, each of several principals still gets in, up to the limit for himself. Before each of his calls goes
        # one of each of the others, however many of theirs wait: a burst of one principal's keeps nobody else out. BATCH
        # gets in only in the room that INTERACTIVE leaves.
        most = max(self._held.values(), default=0)
        sharing = len(self._held) + (not mine)
        return (
            sharing > 1
            and mine < self.bound
            and self.in_flight - most + 1 < 2 * self.bound
            and (urgent or (self.urgent < self.bound and self.in_flight < 2 * self.bound))
        )

    def _count_starved(self, now_s: float) -> None:
        since_s = now_s - self._counted_at_s
        if self.in_flight < self._starved_below:
            self._starved_s += since_s
            if not self.in_flight and since_s > max(_QUIET_S, _WINDOW_ANSWERS * self._s_per_answer):
                self._calm(now_s)
        self._counted_at_s = now_s

    def _start_window(self, now_s: float) -> None:
        self._window_at_s = now_s
        self._answers = 0
        self._waited_s = 0.0
        self._served_s = 0.0
        self._starved_s = 0.0
        self._refused = 0

    def _close_window(self, now_s: float) -> None:
        elapsed_s = now_s - self._window_at_s
        in_service = self._served_s / elapsed_s
        s_per_answer = elapsed_s / self._answers
        self._refused_last = self._refused / elapsed_s
        if self.overloaded:
            self._s_per_answer = s_per_answer
            self._busy_s_per_answer = min(
                (elapsed_s - self._starved_s) / self._answers, _WORSE * self._busy_s_per_answer
            )
            self._adapt(in_service, self._starved_s / elapsed_s, now_s)
        elif self._waited_s > _QUEUED * self._served_s:
            # The better of two windows: one pause of the machine is no overload.
            pace_s = min(s_per_answer, self._s_per_answer) if self._s_per_answer else s_per_answer
            self._s_per_answer = s_per_answer
            self.in_service = in_service
            self._alarm = max(self._min_in_flight, self._max_wait_s / pace_s)
            if self.in_flight > self._alarm:
                self._begin_overload(now_s)
        else:
            self._alarm = inf
            self._s_per_answer = 0.0
        self._start_window(now_s)

    def _begin_overload(self, now_s: float) -> None:
        self.overloaded = True
        self._gain = _GAIN
        self._starved = 0.0
        self._quiet_since_s = now_s
        self._counted_at_s = now_s
        self._busy_s_per_answer = self._s_per_answer
        self._set_bound()
        self._start_window(now_s)

    def _adapt(self, in_service: float, starved: float, now_s: float) -> None:
        if self._is_over(now_s):
            self._calm(now_s)
            return
        # Callers come at random: a short window without work says nothing by itself.
        self._starved += _NEWEST * (starved - self._starved)
        if self._starved > _STARVED:
            self._gain = min(2.0 * self._gain, _MOST_GAIN)
            self._starved = _STARVED / 2
        else:
            change = in_service - self.in_service
            self.in_service += (_RISE if change > 0 else _FALL) * change
            if self._starved < _FED:
                self._gain = max(_GAIN, 0.8 * self._gain)
        self._set_bound()

    def _set_bound(self) -> None:
        bound = max(2, round(self._gain * self.in_service))
        short = int(min(_SHORT_S / max(self._busy_s_per_answer, 1e-9), self._min_in_flight))
        # Where the queue is short by itself no place is given later than the others.
        self._free = short if short > bound else 0
        self.bound = max(bound, short)
        self._starved_below = max(_BUSY_SHARE * self.in_service, 0.5)

    def _is_over(self, now_s: float) -> bool:
        """Whether nobody was refused for long enough."""
        return now_s - self._quiet_since_s > max(_QUIET_S, _WINDOW_ANSWERS * self._s_per_answer)

    def _calm(self, now_s: float) -> None:
        self.overloaded = False
        self._alarm = inf
        self._s_per_answer = 0.0
        self._start_window(now_s)
