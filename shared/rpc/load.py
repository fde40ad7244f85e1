"""What this process tells a balancer of its load: an ORCA report in the trailers of every call.

Here: rates out of counts, and the message on the wire. Not here: the counts themselves (`shared.telemetry.metrics`), what
waits before models (`shared/inference/metrics.py` says it), what one call took (`report.py`).

The report is xds.data.orca.v3.OrcaLoadReport, as gRFC A51 wants it: binary, under `endpoint-load-metrics-bin`. It is made
ten times a second at most, and goes out as the same bytes in between.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from shared.rpc.gate import Gate
from shared.telemetry.metrics import CallMetrics

__all__ = ["LOAD_TRAILER", "Backlog", "LoadMeter", "Workload", "encode_report"]

LOAD_TRAILER = "endpoint-load-metrics-bin"
# How old a report may get. A balancer that weighs replicas looks every second or so.
_FRESH_S = 0.1
# Rates are taken over about a second: a tenth alone would swing with every batch.
_WINDOW = 10
# Ended with one of these, a call failed for a reason of ours. What a client can provoke is not counted: nobody should be
# able to drive others' calls away from a replica.
_OUR_ERRORS = ("INTERNAL", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS")

# Fields of OrcaLoadReport: tag of a double is number << 3 | 1, of a message number << 3 | 2.
# https://github.com/cncf/xds/blob/main/xds/data/orca/v3/orca_load_report.proto
_CPU_UTILIZATION, _RPS_FRACTIONAL, _EPS, _NAMED_METRICS, _APPLICATION_UTILIZATION = 1, 6, 7, 8, 9


@dataclass(frozen=True, slots=True)
class Backlog:
    """Work that waits before models. items: how many; seconds: how long the core budget is expected to need for them."""

    items: int = 0
    seconds: float = 0.0


class Workload(Protocol):
    """What a process does for its calls, as far as a balancer wants to know."""

    @property
    def cores(self) -> int:
        """Cores that the work may use."""

    def backlog(self) -> Backlog:
        """What waits now. To be asked on the event loop."""


@dataclass(frozen=True, slots=True)
class _Sample:
    at_s: float
    cpu_s: float
    calls: int
    errors: int


class LoadMeter:
    """The load of one process. Used on the event loop only."""

    def __init__(
        self,
        metrics: CallMetrics,
        gate: Gate,
        workload: Workload | None = None,
        *,
        now_s: float | None = None,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        """Without a `workload` nothing waits, and the process has one core. `now_s` is the time on `time.monotonic`'s
        clock, if it is not now.
        """
        self._metrics = metrics
        self._gate = gate
        self._workload = workload
        self._cpu_clock = cpu_clock
        now_s = time.monotonic() if now_s is None else now_s
        self._samples: deque[_Sample] = deque([self._take(now_s)], maxlen=_WINDOW + 1)
        self._fresh_until_s = 0.0
        self._trailer = (LOAD_TRAILER, b"")

    def trailer(self, now_s: float) -> tuple[str, bytes]:
        """Key and value; `now_s` is on `time.monotonic`'s clock."""
        if now_s >= self._fresh_until_s:
            self._fresh_until_s = now_s + _FRESH_S
            self._trailer = (LOAD_TRAILER, self._measure(now_s))
        return self._trailer

    def _measure(self, now_s: float) -> bytes:
        sample = self._take(now_s)
        self._samples.append(sample)
        # After an idle time, what lies before it says nothing of now.
        while len(self._samples) > 2 and now_s - self._samples[0].at_s > 2 * _WINDOW * _FRESH_S:
            self._samples.popleft()
        before = self._samples[0]
        span_s = max(now_s - before.at_s, 1e-3)
        cpu, backlog = (sample.cpu_s - before.cpu_s) / span_s, Backlog()
        if self._workload is not None:
            cpu, backlog = cpu / self._workload.cores, self._workload.backlog()
        return encode_report(
            cpu_utilization=cpu,
            # Above 1 once work waits: by a whole for every second of it.
            application_utilization=cpu + backlog.seconds,
            rps=(sample.calls - before.calls) / span_s,
            eps=(sample.errors - before.errors) / span_s,
            named={"queue_size": float(backlog.items), "in_flight": float(len(self._gate.calls))},
        )

    def _take(self, now_s: float) -> _Sample:
        calls, errors = self._metrics.count_ended(_OUR_ERRORS)
        return _Sample(now_s, self._cpu_clock(), calls, errors)


def encode_report(
    *,
    cpu_utilization: float,
    application_utilization: float,
    rps: float,
    eps: float,
    named: Mapping[str, float],
) -> bytes:
    """An OrcaLoadReport on the wire; fields that are 0 are left out, as proto3 does."""
    parts = [
        _encode_double(_CPU_UTILIZATION, cpu_utilization),
        _encode_double(_RPS_FRACTIONAL, rps),
        _encode_double(_EPS, eps),
    ]
    for key, value in named.items():
        # An entry of a map is a message of key and value, both always written.
        name = key.encode()
        entry = bytes((0x0A, len(name))) + name + b"\x11" + struct.pack("<d", value)
        parts.append(bytes((_NAMED_METRICS << 3 | 2, len(entry))) + entry)
    parts.append(_encode_double(_APPLICATION_UTILIZATION, application_utilization))
    return b"".join(parts)


def _encode_double(field: int, value: float) -> bytes:
    return bytes((field << 3 | 1,)) + struct.pack("<d", value) if value else b""
