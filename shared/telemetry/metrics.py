"""Prometheus metrics: what is counted of calls, and the HTTP port it is scraped from.

The hot path counts in plain Python numbers on the event loop's thread, without locks: half a microsecond a
call, where prometheus-client's own histogram and counter take four. A collector hands them over when somebody
scrapes.
"""

from __future__ import annotations

import asyncio
import threading
from bisect import bisect_left
from collections.abc import Collection, Iterator
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

# Upper bounds in seconds: from an echo over a socket to the default timeout, each about twice the one before.
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class MethodMetrics:
    """The counts of one method. Written by one thread; a scrape may read in between and sees one call more or
    less.
    """

    __slots__ = ("_bounds", "buckets", "codes", "started", "sum_s")

    def __init__(self) -> None:
        self._bounds = BUCKETS_S
        self.started = 0
        self.codes: dict[str, int] = {}
        self.buckets = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    def finish(self, code: str, duration_s: float) -> None:
        """Counts one ended call."""
        self.codes[code] = self.codes.get(code, 0) + 1
        self.buckets[bisect_left(self._bounds, duration_s)] += 1
        self.sum_s += duration_s


class CallMetrics(Collector):
    """The metrics of all methods of a server."""

    def __init__(self) -> None:
        self._methods: dict[tuple[str, str], MethodMetrics] = {}

    def bind(self, service: str, method: str) -> MethodMetrics:
        """The counts of one method, the same object for the same names."""
        return self._methods.setdefault((service, method), MethodMetrics())

    def count_ended(self, codes: Collection[str]) -> tuple[int, int]:
        """Calls that have ended, and those of them that ended with one of `codes`."""
        ended = failed = 0
        for counts in self._methods.values():
            ended += sum(counts.codes.values())
            for code in codes:
                failed += counts.codes.get(code, 0)
        return ended, failed

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus-client at every scrape, on its thread."""
        labels = ["service", "method"]
        calls = CounterMetricFamily("sensorium_rpc_calls", "Ended calls.", labels=[*labels, "code"])
        seconds = HistogramMetricFamily(
            "sensorium_rpc_call_seconds", "Duration of ended calls.", labels=labels
        )
        inflight = GaugeMetricFamily("sensorium_rpc_inflight_calls", "Calls being answered.", labels=labels)
        for names, counts in list(self._methods.items()):
            ended = 0
            for code, number in sorted(counts.codes.items()):
                calls.add_metric([*names, code], number)
                ended += number
            total, buckets = 0, []
            for bound, number in zip([*BUCKETS_S, float("inf")], counts.buckets, strict=True):
                total += number
                buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
            seconds.add_metric([*names], buckets, counts.sum_s)
            inflight.add_metric([*names], max(0, counts.started - ended))
        yield from (calls, seconds, inflight)


class LoopMetrics(Collector):
    """What the event loop of a server has to do. A scrape comes on a thread of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus-client at every scrape."""
        yield GaugeMetricFamily(
            "sensorium_rpc_tasks",
            "Tasks of the event loop: one for each call, and those of the process itself.",
            value=len(asyncio.all_tasks(self._loop)),
        )


class MetricsServer:
    """The HTTP port of the metrics, on a thread of its own."""

    def __init__(self, server: WSGIServer, thread: threading.Thread) -> None:
        self._server = server
        self._thread = thread

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Stops listening and ends the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve_metrics(host: str, port: int, registry: CollectorRegistry) -> MetricsServer:
    """Serves `registry` at http://host:port/metrics (port 0: a free one). Raises OSError if the address is
    taken.
    """
    server, thread = start_http_server(port, addr=host, registry=registry)
    return MetricsServer(server, thread)


def make_registry(*collectors: Collector) -> CollectorRegistry:
    """A registry with `collectors` in it, and with the process's own figures (CPU, memory, descriptors)."""
    from prometheus_client import GCCollector, PlatformCollector, ProcessCollector

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    for collector in collectors:
        registry.register(collector)
    return registry
