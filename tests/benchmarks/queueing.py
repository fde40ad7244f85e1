"""How long calls wait at so many replicas: Erlang's formula as corrected by Allen and Cunneen.

Arrivals are random (Poisson) unless said otherwise, replicas alike, and whoever is free takes the next call. Lives here: the
formulas. Not here: the figures that go into them (`sizing`), and whether they hold (`capacity`).

Sources: A. O. Allen, Probability, Statistics and Queueing Theory (2nd ed., 1990), section 5.3; J. F. C. Kingman (1961)
for one replica.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Demand:
    """What calls ask of one service."""

    per_s: float
    """Calls a second, all together."""
    service_s: float
    """Core-seconds of a call at saturation, on average."""
    scv: float
    """Squared coefficient of variation of `service_s` over the calls: 0 where all cost the same."""

    @property
    def work(self) -> float:
        """Replicas of one core that would be busy all the time."""
        return self.per_s * self.service_s


def mix(calls: Mapping[str, float], service_s: Mapping[str, float]) -> Demand:
    """The demand of several kinds of call together: calls a second by kind; each kind costs the same every time."""
    per_s = sum(calls.values())
    mean_s = sum(rate * service_s[kind] for kind, rate in calls.items()) / per_s
    square = sum(rate * service_s[kind] ** 2 for kind, rate in calls.items()) / per_s
    return Demand(per_s, mean_s, max(0.0, square / mean_s**2 - 1))


def find_waiting_share(replicas: int, work: float) -> float:
    """The share of calls that must wait (Erlang C), of exponential services; work: replicas that are busy on average.

    Raises:
        ValueError: there is more work than replicas: the queue has no end.
    """
    if not 0 <= work < replicas:
        raise ValueError(f"replicas: expected more than {work:g}, the work, got {replicas}")
    # Erlang B by its recursion, which does not overflow, then C out of it.
    blocked = 1.0
    for n in range(1, replicas + 1):
        blocked = work * blocked / (n + work * blocked)
    return blocked / (1 - work / replicas * (1 - blocked))


@dataclass(frozen=True)
class Waiting:
    """How long calls wait before they are begun, in seconds."""

    mean_s: float
    share: float
    """Of calls that wait at all."""

    def quantile_s(self, share: float) -> float:
        """What this share of the calls does not exceed: those that wait are held to wait exponentially long."""
        if self.share <= 1 - share:
            return 0.0
        return self.mean_s / self.share * math.log(self.share / (1 - share))


def predict(replicas: int, demand: Demand, *, arrivals_scv: float = 1.0) -> Waiting:
    """The waiting of calls at replicas of one core each. arrivals_scv: 1 = random, 0 = like clockwork, more = in bursts.

    Raises:
        ValueError: as `find_waiting_share`.
    """
    share = find_waiting_share(replicas, demand.work)
    exponential_s = share * demand.service_s / (replicas - demand.work)
    return Waiting(exponential_s * (arrivals_scv + demand.scv) / 2, share)
