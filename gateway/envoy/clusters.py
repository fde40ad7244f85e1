"""Replica sets as Envoy clusters, and their endpoints with what each has ready. Pure.

A service is one cluster. What a replica has ready stands in its endpoint's metadata, and a route picks the subset that has
it: health, connections and ejection are then counted once per replica, not once per model and replica.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gateway.config import Mesh
from gateway.discovery.roster import Replica, State, find_default_endpoints
from gateway.envoy import Json
from gateway.envoy.files import render_source

CONTROL = "control"
# Keys of endpoint metadata by which routes choose a subset: has this model (`name`, or `name@version`) ready, has the
# default model of this rpc ready, or any endpoint at all (a route without a condition would fall under the fallback, which
# is to fail).
MODEL_KEY, RPC_KEY, ANY_KEY = "model", "rpc", "any"
# Of so many replicas drawn at random, the one with the fewest calls in flight is taken. The same one may be drawn several
# times: of three replicas with one ten times slower, two draws send it every ninth call whatever it has. At 60 calls a
# second, 57 % of what the three can do, p99 was 6 to 10 s, and 0.65 s with four draws; at 85 calls 13 to 18 and 0.9 s. Eight
# draws were little better (0.45 to 0.6 and 0.75 s), and make it harder to find another one for a second try.
#
# Envoy's round robin weighted by the replicas' own load reports (client_side_weighted_round_robin) did better in the same
# runs, 0.24 to 0.29 and 0.41 s. It cannot be had: Envoy 1.39 crashes with it where subsets are chosen first.
_CHOICES = 4
# Replicas are near; one that does not accept a connection in this time is gone.
_CONNECT_TIMEOUT_S = 1.0
_HTTP2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        # A window of a few messages: enough that an image goes out at once, and bounded per connection.
        "explicit_http_config": {
            "http2_protocol_options": {
                "initial_stream_window_size": 1 << 20,
                "initial_connection_window_size": 8 << 20,
            }
        },
    }
}


def render_clusters(mesh: Mesh, folder: Path, control_socket: Path) -> list[Json]:
    """All clusters. folder: where `endpoints_path` files lie. control_socket: where the control plane listens."""
    return [_control(control_socket), *(_service(mesh, service.name, folder) for service in mesh.services)]


def endpoints_path(folder: Path, service: str) -> Path:
    """File with the endpoints of `service`."""
    return folder / f"endpoints-{service}.json"


def render_endpoints(service: str, replicas: Iterable[Replica]) -> Json:
    """`ClusterLoadAssignment` of a service: its replicas in rotation, and those that drain, which get nothing new."""
    replicas = [replica for replica in replicas if replica.state in (State.READY, State.DRAINING)]
    defaults = find_default_endpoints(replicas)
    endpoints = [
        _endpoint(replica, sorted(rpc for rpc, those in defaults.items() if replica.endpoint in those))
        for replica in replicas
    ]
    return {
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": service,
        "endpoints": [{"lb_endpoints": endpoints}] if endpoints else [],
    }


def render_address(address: str) -> Json:
    """`host:port` or `unix:/path` as Envoy's Address."""
    if address.startswith("unix:"):
        return {"pipe": {"path": address.removeprefix("unix:")}}
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def _endpoint(replica: Replica, rpcs: list[str]) -> Json:
    """rpcs: those of which it takes the calls that name no model."""
    ready: Json = {
        ANY_KEY: "yes",
        MODEL_KEY: sorted(replica.ready_names | replica.ready_versions),
        RPC_KEY: rpcs,
    }
    return {
        "endpoint": {"address": render_address(replica.endpoint)},
        # UNKNOWN leaves it to Envoy's health checks; a draining one keeps what it has.
        "health_status": "DRAINING" if replica.state is State.DRAINING else "UNKNOWN",
        "metadata": {"filter_metadata": {"envoy.lb": ready}},
    }


def _service(mesh: Mesh, name: str, folder: Path) -> Json:
    checks, retries = mesh.health_checks, mesh.retries
    return {
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {
            "service_name": name,
            "eds_config": render_source(endpoints_path(folder, name)),
        },
        "connect_timeout": f"{_CONNECT_TIMEOUT_S}s",
        "lb_policy": "LEAST_REQUEST",
        "least_request_lb_config": {"choice_count": _CHOICES},
        "lb_subset_config": {
            "fallback_policy": "NO_FALLBACK",
            "subset_selectors": [{"keys": [MODEL_KEY]}, {"keys": [RPC_KEY]}, {"keys": [ANY_KEY]}],
            "list_as_any": True,
        },
        "common_lb_config": {
            # Never to replicas known to be bad, however many are: an answer from one is worth less than a refusal.
            "healthy_panic_threshold": {"value": 0},
            # By default workers learn of health up to 1 s late: a replica that just came would get nothing until then.
            "update_merge_window": "0s",
        },
        # A replica that left must not be called because its last check was good.
        "ignore_health_on_host_removal": True,
        "health_checks": [
            {
                "interval": f"{checks.interval_s}s",
                "timeout": f"{checks.timeout_s}s",
                "unhealthy_threshold": checks.unhealthy_after,
                "healthy_threshold": 1,
                # As often as with traffic: the first call must not be the probe.
                "no_traffic_interval": f"{checks.interval_s}s",
                "no_traffic_healthy_interval": f"{checks.interval_s}s",
                "unhealthy_interval": f"{checks.interval_s}s",
                "grpc_health_check": {},
            }
        ],
        "outlier_detection": {
            # Only what happened between here and there counts: codes are something a caller can provoke.
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 1,
            "enforcing_consecutive_local_origin_failure": 100,
            "enforcing_local_origin_success_rate": 0,
            "enforcing_consecutive_5xx": 0,
            "enforcing_consecutive_gateway_failure": 0,
            "enforcing_success_rate": 0,
            "enforcing_failure_percentage": 0,
            "interval": "0.5s",
            "base_ejection_time": "1s",
            # It grows with every ejection; a replica that comes back is wanted back.
            "max_ejection_time": "5s",
            "max_ejection_percent": 67,
        },
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": 1_024,
                    "max_pending_requests": mesh.limits.max_in_flight,
                    "max_requests": mesh.limits.max_in_flight,
                    "retry_budget": {
                        "budget_percent": {"value": retries.budget_percent},
                        "min_retry_concurrency": retries.min_concurrency,
                    },
                }
            ]
        },
        "typed_extension_protocol_options": _HTTP2,
    }


def _control(socket: Path) -> Json:
    return {
        "name": CONTROL,
        "type": "STATIC",
        "connect_timeout": f"{_CONNECT_TIMEOUT_S}s",
        "load_assignment": {
            "cluster_name": CONTROL,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": str(socket)}}}}]}],
        },
        "typed_extension_protocol_options": _HTTP2,
    }
