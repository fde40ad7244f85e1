"""The port that Prometheus asks: the data plane's counts and the control plane's, and nothing else of either. Pure.

Envoy's admin interface, of which the counts are a part, can stop Envoy and tells its configuration: of it one path is let
through, by GET, under another name. The control plane's come by a socket of its own: Envoy's are there when it is not.
"""

from __future__ import annotations

from pathlib import Path

from gateway.envoy import Json
from gateway.envoy.clusters import render_address
from gateway.envoy.listener import ADMIN_CLUSTER, render_routed_listener

# What Prometheus asks for, and where a control plane's are.
PATH, CONTROL_PATH = "/metrics", "/metrics/control"
# With an underscore no service can have its name.
CONTROL_METRICS_CLUSTER = "control_metrics"
_EXPOSITION = "/stats/prometheus"


def render_metrics_listener(address: str) -> Json:
    """GET of two paths on `address`."""
    routes: list[Json] = [
        {
            "match": _get(PATH),
            "route": {"cluster": ADMIN_CLUSTER, "prefix_rewrite": _EXPOSITION},
        },
        {
            "match": _get(CONTROL_PATH),
            "route": {"cluster": CONTROL_METRICS_CLUSTER, "prefix_rewrite": PATH},
        },
    ]
    return render_routed_listener("metrics", render_address(address), routes)


def render_metrics_cluster(socket: Path) -> Json:
    """The control plane's counts."""
    return {
        "name": CONTROL_METRICS_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": CONTROL_METRICS_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": str(socket)}}}}]}],
        },
    }


def _get(path: str) -> Json:
    return {"path": path, "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]}
