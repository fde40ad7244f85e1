"""Envoy's bootstrap: everything that does not change while it runs. Pure.

The listener is in here, and not in a file that is watched: changing it would drain every connection, and open connections
would go on under the old rules. What changes while running are routes, endpoints and the keys of tokens.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from gateway.config import Mesh
from gateway.contract import Contract
from gateway.envoy import Json
from gateway.envoy.clusters import render_clusters
from gateway.envoy.filters import render_filters
from gateway.envoy.listener import render_admin_cluster, render_admin_listener, render_listener
from gateway.envoy.metrics import render_metrics_cluster, render_metrics_listener
from gateway.envoy.traces import render_traces_cluster, render_tracing
from shared.telemetry.tracing import TraceSettings

# Shares of the heap bound: when to give memory back, when to refuse new calls in words, and, as the last resort because it
# ends calls without a word, when to reset the largest ones.
_SHRINK, _REFUSE, _RESET = 0.80, 0.85, 0.95
# Calls that hold less than 1 MiB are never reset for their size (2^(bits - 1) bytes).
_SMALLEST_RESET_BITS = 21
# Envoy cuts a connection once half of 500 calls on it were cancelled within two seconds. That is also what a caller with
# short deadlines does while the mesh is busy, and the cut takes its other calls along. How many calls a caller may
# begin is what the rate limit says.
_RUNTIME: Json = {"overload.premature_reset_total_stream_count": 100_000}


@dataclass(frozen=True)
class Places:
    """Where what Envoy reads and writes lies.

    folder: routes, endpoints and the token filter. descriptors: the descriptor set. control, metrics, admin: sockets.
    """

    folder: Path
    descriptors: Path
    control: Path
    metrics: Path
    admin: Path


@dataclass(frozen=True)
class Ports:
    """Where Envoy listens. address: for callers. admin: its own state, on loopback. metrics: for Prometheus, or nowhere."""

    address: str
    admin: int
    metrics: str | None


def render_bootstrap(
    mesh: Mesh, contract: Contract, ports: Ports, places: Places, traces: TraceSettings
) -> Json:
    """The whole of it. Its `node.id` is a digest of the rest: two gateways with the same id are interchangeable."""
    filters = render_filters(mesh, contract, places.folder, places.descriptors)
    bootstrap: Json = {
        "static_resources": {
            "listeners": [
                render_listener(mesh, ports.address, filters, places.folder, render_tracing(traces)),
                render_admin_listener(ports.admin),
                *([render_metrics_listener(ports.metrics)] if ports.metrics else []),
            ],
            "clusters": [
                *render_clusters(mesh, places.folder, places.control),
                render_admin_cluster(places.admin),
                render_metrics_cluster(places.metrics),
                *([render_traces_cluster(traces.endpoint)] if traces.endpoint else []),
            ],
        },
        "admin": {"address": {"pipe": {"path": str(places.admin), "mode": 0o600}}},
        "overload_manager": _overload(mesh),
        # Subsets, retries and refusals are counted under `mesh`; one tag a service.
        "layered_runtime": {"layers": [{"name": "static", "static_layer": _RUNTIME}]},
    }
    content = json.dumps(bootstrap, sort_keys=True).encode() + contract.serialized()
    bootstrap["node"] = {
        "id": f"sensorium-{hashlib.sha256(content).hexdigest()[:32]}",
        "cluster": "sensorium",
    }
    return bootstrap


def node_id(bootstrap: Json) -> str:
    """The id by which a running Envoy is recognised."""
    node = bootstrap["node"]
    assert isinstance(node, dict)
    return str(node["id"])


def _overload(mesh: Mesh) -> Json:
    def heap(name: str, at: float) -> Json:
        return {
            "name": f"envoy.overload_actions.{name}",
            "triggers": [{"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": at}}],
        }

    reset = heap("reset_high_memory_stream", _RESET)
    reset["triggers"] = [
        {
            "name": "envoy.resource_monitors.fixed_heap",
            "scaled": {"scaling_threshold": _RESET, "saturation_threshold": 1.0},
        }
    ]
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.fixed_heap",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": mesh.limits.max_heap_bytes,
                },
            },
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3"
                    ".DownstreamConnectionsConfig",
                    "max_active_downstream_connections": mesh.limits.max_connections,
                },
            },
        ],
        "actions": [heap("shrink_heap", _SHRINK), reset, heap("stop_accepting_requests", _REFUSE)],
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": _SMALLEST_RESET_BITS},
    }
