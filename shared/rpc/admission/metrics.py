"""What the doors of a process let in and keep out, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.rpc.admission.admission import Admission

__all__ = ["AdmissionMetrics"]


class AdmissionMetrics(Collector):
    """The metrics of one admission. A scrape comes on a thread of its own and may see one call more or less."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus-client at every scrape."""
        refused = CounterMetricFamily(
            "sensorium_rpc_refused_calls",
            "Calls that were refused at the door, by the reason that their callers were told.",
            labels=["method", "reason"],
        )
        inflight, bound = (
            GaugeMetricFamily(f"sensorium_rpc_{name}", text, labels=["method", "model"])
            for name, text in (
                ("admitted_calls", "Calls in flight that were let in for a model."),
                ("admitted_calls_limit", "Most that are let in, while the model is overloaded."),
            )
        )
        n_bytes = GaugeMetricFamily("sensorium_rpc_admitted_bytes", "Bytes of the requests in flight.")
        n_bytes.add_metric([], self._admission.bytes_in_flight)
        for door in list(self._admission.doors):
            for reason, count in list(door.refused.items()):
                refused.add_metric([door.method, reason], count)
            for model, limit in list(door.limits.items()):
                inflight.add_metric([door.method, model], limit.in_flight)
                if limit.overloaded:
                    bound.add_metric([door.method, model], limit.bound)
        yield from (refused, inflight, bound, n_bytes)
