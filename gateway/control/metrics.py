"""What the control plane counts, for Prometheus, and the socket it is read from.

Here: replicas and models as callers find them, names that cannot be looked up, starts of Envoy, calls that the control plane
answered. Not here: the calls of the data plane, which Envoy counts.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.control.view import View
from gateway.discovery.roster import State

# Envoy asks over a connection that it keeps, and sends a few hundred bytes.
_REQUEST_TIMEOUT_S = 60.0
# How replicas begin their reason for a model that their catalogue names and that they do not have on disk.
NOT_PULLED = "not pulled:"
_ASKED = re.compile(rb"GET /metrics(\?[^ ]*)? HTTP/1\.1\r\n")
_WITH_BODY = re.compile(rb"\r\n(content-length: *0*[1-9]|transfer-encoding:)", re.IGNORECASE)


class MeshMetrics(Collector):
    """The mesh as its gateway sees it. Used on the event loop only.

    find_unknown: services whose name cannot be looked up. count_starts: how often Envoy was started. is_stuck: whether what
    changed cannot be written for it.
    """

    def __init__(
        self,
        view: View,
        *,
        find_unknown: Callable[[], Collection[str]],
        count_starts: Callable[[], int],
        is_stuck: Callable[[], bool],
    ) -> None:
        self._view, self._find_unknown = view, find_unknown
        self._count_starts, self._is_stuck = count_starts, is_stuck

    def collect(self) -> Iterator[Metric]:
        """Called at every scrape."""
        yield from self._count_replicas()
        catalog = self._view.catalog
        ready = GaugeMetricFamily(
            "sensorium_gateway_model_ready_replicas",
            "Replicas on which a model answers; nothing is told of one that none has on disk.",
            labels=["service", "model"],
        )
        known = GaugeMetricFamily(
            "sensorium_gateway_model_replicas",
            "Replicas that know a model.",
            labels=["service", "model"],
        )
        # A model has an entry for each of its versions.
        found: dict[tuple[str, str], tuple[int, int]] = {}
        for model in catalog.models():
            key = (model.service, model.status.name)
            before = found.get(key, (0, 0))
            found[key] = (max(before[0], model.ready_replicas), max(before[1], model.replicas))
        # Who left a model out of the image of weights is not to be told for ever that it does not serve.
        on_disk = {
            (replica.service, model.name)
            for replica in catalog.replicas
            for model in replica.report.models
            if not model.reason.startswith(NOT_PULLED)
        }
        for (service, name), (n_ready, n_known) in found.items():
            if (service, name) in on_disk:
                ready.add_metric([service, name], n_ready)
            known.add_metric([service, name], n_known)
        yield from (ready, known)
        yield CounterMetricFamily(
            "sensorium_gateway_envoy_starts",
            "Starts of the data plane by this control plane; 0: it took a running one over.",
            value=self._count_starts(),
        )
        yield GaugeMetricFamily(
            "sensorium_gateway_files_stuck",
            "1 while what changed cannot be written for the data plane.",
            value=self._is_stuck(),
        )

    def _count_replicas(self) -> Iterator[Metric]:
        catalog = self._view.catalog
        states = GaugeMetricFamily(
            "sensorium_gateway_replicas",
            "Replicas, by how far calls reach them.",
            labels=["service", "state"],
        )
        counted = Counter((replica.service, replica.state) for replica in catalog.replicas)
        unknown = self._find_unknown()
        lookups = GaugeMetricFamily(
            "sensorium_gateway_name_unknown",
            "1 while no name server tells the addresses of a service's replicas.",
            labels=["service"],
        )
        for service in catalog.services:
            for state in State:
                states.add_metric([service, state.name.lower()], counted[service, state])
            lookups.add_metric([service], service in unknown)
        yield from (states, lookups)


class MetricsSocket:
    """GET /metrics on a Unix socket, HTTP/1.1: for the data plane, which lets Prometheus have it."""

    def __init__(self, path: Path, registry: CollectorRegistry) -> None:
        self._path, self._registry = path, registry
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listens; what a control plane left there that was killed is replaced."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path)
        self._path.chmod(0o600)

    async def stop(self) -> None:
        """Closes it, and the connections."""
        if self._server is not None:
            self._server.close()
            for writer in self._open:
                writer.close()
            await self._server.wait_closed()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while True:
                async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                # A body is not read: what comes after it could be its end.
                last = _WITH_BODY.search(head) is not None
                if _ASKED.match(head):
                    status, kind, body = "200 OK", CONTENT_TYPE_LATEST, generate_latest(self._registry)
                else:
                    status, kind, body = "404 Not Found", "text/plain", b""
                fields = {"content-type": kind, "content-length": str(len(body))}
                if last:
                    fields["connection"] = "close"
                lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items())]
                writer.write("\r\n".join([*lines, "", ""]).encode())
                writer.write(body)
                await writer.drain()
                if last:
                    return
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # Whoever asked is gone, silent, or says too much.
            return
        finally:
            self._open.discard(writer)
            writer.close()
