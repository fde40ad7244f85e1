"""The one port that callers see, and the read-only one of Envoy's own state on loopback. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gateway.config import Mesh, Timeouts
from gateway.envoy import Json
from gateway.envoy.clusters import render_address
from gateway.envoy.files import render_source
from gateway.envoy.headers import render_early_mutations
from gateway.envoy.replies import render_replies

ROUTES = "mesh"
ADMIN_CLUSTER = "admin"
# As `access_log`, what does not become a file.
STANDARD_OUTPUT = Path("/dev/stdout")
_HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
# Room above the largest message for its frame and for what a filter holds besides.
_SLACK_BYTES = 64 * 1024
# Bytes a caller may have in flight on one call before the gateway takes them, and on one connection.
_STREAM_WINDOW_BYTES, _CONNECTION_WINDOW_BYTES = 1 << 20, 4 << 20
# By how much the routes' bounds come before those of the whole listener.
_GRACE_S = 5.0
# By how much connections may outlive their age, in per cent: those that came together shall not all come again together.
_AGE_JITTER = 20
# A replica's own front takes 16 KiB of headers; more would be refused there, and be held against it.
_MAX_HEADERS_KIB = 16
# Those who look after a mesh are few, and are left out of the bound on all connections. Each has so long to ask, to take an
# answer on, and to ask again: Prometheus does so every minute at most.
_MAX_WATCHERS = 64
_ASK_S, _TAKE_S, _ASK_AGAIN_S = 10, 60, 300
# Read-only paths of the admin interface: everything else of it changes things, and stays on its socket.
_ADMIN_PATHS = ("/stats", "/stats/prometheus", "/ready", "/server_info", "/clusters", "/listeners")


def render_listener(
    mesh: Mesh, address: str, filters: Sequence[Json], folder: Path, tracing: Json | None
) -> Json:
    """The public port. filters: in their order. folder: where the routes file lies. tracing: what is recorded."""
    limits = mesh.limits
    connection: Json = {
        "@type": _HCM,
        "stat_prefix": "mesh",
        "codec_type": "AUTO",
        "rds": {
            "route_config_name": ROUTES,
            "config_source": render_source(routes_path(folder)),
        },
        "http_filters": list(filters),
        "early_header_mutation_extensions": render_early_mutations(),
        "local_reply_config": render_replies(limits.max_message_bytes, _MAX_HEADERS_KIB),
        # Nobody is trusted to name another address than its own, nor a request id.
        "use_remote_address": True,
        # With no range at all Envoy would take every private address for one of its own.
        "internal_address_config": {
            "unix_sockets": False,
            "cidr_ranges": [{"address_prefix": "::", "prefix_len": 128}],
        },
        "generate_request_id": True,
        "preserve_external_request_id": False,
        "always_set_request_id_in_response": True,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "server_name": "sensorium",
        "max_request_headers_kb": _MAX_HEADERS_KIB,
        "request_headers_timeout": "10s",
        # The last bound on a request that never ends, behind those of its routes: the first one is chosen before the model
        # is known, and says how long a message may take to come.
        "request_timeout": f"{max(longest_s(mesh), longest_stream_s(mesh)) + _GRACE_S:g}s",
        # Above every deadline: a call ends by its deadline, an abandoned one by this.
        "stream_idle_timeout": f"{longest_s(mesh) + 10:.0f}s",
        "common_http_protocol_options": {
            "idle_timeout": f"{limits.idle_s}s",
            **_render_age(limits.max_connection_age_s),
        },
        # HTTP/1.1 has no word for going: an old connection ends with an answer, and never between a call and its answer.
        "http1_safe_max_connection_duration": True,
        "http2_protocol_options": {
            "max_concurrent_streams": limits.max_streams,
            "initial_stream_window_size": _STREAM_WINDOW_BYTES,
            "initial_connection_window_size": _CONNECTION_WINDOW_BYTES,
            # A caller who vanished without a word must not keep his streams until their last second.
            "connection_keepalive": {"interval": "60s", "timeout": "20s"},
        },
    }
    if tracing is not None:
        connection["tracing"] = tracing
    if mesh.access_log:
        connection["access_log"] = [_access_log(mesh.access_log)]
    return {
        "name": "mesh",
        "address": render_address(address),
        # What a drain closes; the admin listener stays to be asked.
        "traffic_direction": "INBOUND",
        # A second gateway on this port must fail, and not share it.
        "enable_reuse_port": False,
        # What filters may hold of one message; above it they answer 413.
        "per_connection_buffer_limit_bytes": limits.max_message_bytes + _SLACK_BYTES,
        "filter_chains": [
            {
                "filters": [
                    {"name": "envoy.filters.network.http_connection_manager", "typed_config": connection}
                ]
            }
        ],
    }


def routes_path(folder: Path) -> Path:
    """File with the routes."""
    return folder / "routes.json"


def render_admin_listener(port: int) -> Json:
    """GET of what only reads, on loopback."""
    routes = [
        {"match": {"path": path, "headers": [_is_get()]}, "route": {"cluster": ADMIN_CLUSTER}}
        for path in _ADMIN_PATHS
    ]
    return render_routed_listener("admin", render_address(f"127.0.0.1:{port}"), routes)


def render_routed_listener(name: str, address: Json, routes: Sequence[Json]) -> Json:
    """A port for those who look after the mesh: nothing but `routes`, and in times of too many calls as well."""
    connection: Json = {
        "@type": _HCM,
        "stat_prefix": name,
        "max_request_headers_kb": _MAX_HEADERS_KIB,
        "request_headers_timeout": f"{_ASK_S}s",
        "stream_idle_timeout": f"{_TAKE_S}s",
        "common_http_protocol_options": {"idle_timeout": f"{_ASK_AGAIN_S}s"},
        "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": list(routes)}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    bound: Json = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
        "stat_prefix": name,
        "max_connections": _MAX_WATCHERS,
    }
    return {
        "name": name,
        "address": address,
        "enable_reuse_port": False,
        # What is wrong must be seen while it is wrong.
        "bypass_overload_manager": True,
        "filter_chains": [
            {
                "filters": [
                    {"name": "envoy.filters.network.connection_limit", "typed_config": bound},
                    {"name": "envoy.filters.network.http_connection_manager", "typed_config": connection},
                ]
            }
        ],
    }


def render_admin_cluster(socket: Path) -> Json:
    """The admin interface itself, as a cluster of the listener above."""
    return {
        "name": ADMIN_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": ADMIN_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": str(socket)}}}}]}],
        },
    }


def _is_get() -> Json:
    return {"name": ":method", "string_match": {"exact": "GET"}}


def longest_s(mesh: Mesh) -> float:
    """The latest deadline that a call with one request may have, in seconds from its start."""
    return max(timeouts.max_s for timeouts in _timeouts(mesh))


def longest_stream_s(mesh: Mesh) -> float:
    """The same of a call with a stream of requests."""
    return max(timeouts.stream_s for timeouts in _timeouts(mesh))


def _timeouts(mesh: Mesh) -> list[Timeouts]:
    return [mesh.timeouts, *(service.timeouts for service in mesh.services if service.timeouts)]


def _render_age(age_s: float) -> Json:
    if not age_s:
        return {}
    return {
        "max_connection_duration": f"{age_s}s",
        "max_connection_duration_jitter": {"value": _AGE_JITTER},
    }


def _access_log(path: Path) -> Json:
    fields = {
        "time": "%START_TIME%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "principal": "%REQ(X-SENSORIUM-PRINCIPAL)%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
        "model": "%REQ(X-SENSORIUM-MODEL)%",
        "status": "%RESPONSE_CODE%",
        "grpc_status": "%GRPC_STATUS%",
        "why": "%RESPONSE_CODE_DETAILS%",
        "flags": "%RESPONSE_FLAGS%",
        "bytes_in": "%BYTES_RECEIVED%",
        "bytes_out": "%BYTES_SENT%",
        "duration_ms": "%DURATION%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "replica": "%UPSTREAM_HOST%",
    }
    log_format: Json = {"json_format": fields}
    loggers = "type.googleapis.com/envoy.extensions.access_loggers"
    if path == STANDARD_OUTPUT:
        # By its descriptor: by that path it could not be opened where it belongs to another user.
        config: Json = {"@type": f"{loggers}.stream.v3.StdoutAccessLog", "log_format": log_format}
        return {"name": "envoy.access_loggers.stdout", "typed_config": config}
    config = {"@type": f"{loggers}.file.v3.FileAccessLog", "path": str(path), "log_format": log_format}
    return {"name": "envoy.access_loggers.file", "typed_config": config}
