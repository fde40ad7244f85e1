"""Which replica set a call goes to, by path and by the model it names. Pure; changes with what the replicas have ready.

A route that is not there is an answer of the control plane: whatever cannot be served ends in the last route, and the
control plane says why (gateway/control/refusal.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from gateway.config import Mesh, Retries, Service
from gateway.contract import (
    ADMINISTRATION,
    HEALTH,
    INFERENCE,
    MESH,
    REFLECTIONS,
    Contract,
    Method,
)
from gateway.discovery.catalog import Catalog
from gateway.envoy import Json
from gateway.envoy.clusters import ANY_KEY, CONTROL, MODEL_KEY, RPC_KEY
from gateway.envoy.filters import CORS, RBAC_BY_MODEL, allow, allow_origins, open_services
from gateway.envoy.headers import REPORT_IN_HEADERS, VERSION_HEADER, enable
from gateway.envoy.listener import ROUTES, longest_s, longest_stream_s
from gateway.envoy.rates import RATE_LIMIT, render_anonymous_limit
from shared.rpc.caller import MODEL_HEADER

# Whether an attempt reached a replica is not always known: what must not be repeated is tried again only where it is certain
# that no replica saw it.
_RETRY_UNSEEN = "connect-failure,refused-stream"
_RETRY_ALL = f"{_RETRY_UNSEEN},unavailable,reset"
# Draws until one is found that was not tried before. A replica that has just died has the fewest calls in flight: while it
# is not out of rotation yet, of two replicas each draw finds the other one once in 2 ** 4 times (`_CHOICES` of clusters.py).
_MAX_DRAWS = 300
# From a stream's deadline to its end by force.
_GRACE_S = 2.0


def render_routes(mesh: Mesh, contract: Contract, catalog: Catalog) -> Json:
    """`RouteConfiguration`; the first route that matches counts."""
    routes: list[Json] = list(_control_routes(mesh))
    for service in mesh.services:
        for name in service.grpc:
            routes += _typed_routes(mesh, service, contract.services[name], catalog)
    for service in mesh.services:
        routes += _inference_routes(mesh, service, contract.services[INFERENCE], catalog)
    # Everything else that is gRPC is refused in words. Until its model is known that is every call: here it is said how long
    # the first message may take, which for a stream may be as long as it lasts.
    for path in _stream_paths(mesh, contract):
        routes.append(_to_control({"path": path}, None, longest_stream_s(mesh)))
    routes.append(_to_control({"prefix": "/"}, None, longest_s(mesh)))
    # Until it was made gRPC a request in JSON has this route, and with it the CORS rules; JSON for no method does not pass
    # the transcoder.
    json = _to_control({"prefix": "/"}, None, longest_s(mesh))
    settings = {RBAC_BY_MODEL: allow(None), REPORT_IN_HEADERS: enable()}
    routes.append({**json, "match": {"prefix": "/"}, "typed_per_filter_config": settings})
    host: Json = {
        "name": "mesh",
        "domains": ["*"],
        "routes": routes,
        # What is kept of a request until it is answered, so that it can be sent again: all of it.
        "request_body_buffer_limit": mesh.limits.max_message_bytes,
        # So that a replica knows a call that another one had before, which may have crashed over it.
        "include_request_attempt_count": True,
        # A replica's native front may not send the name that clients know. A refusal has no reply: its trailers are headers.
        "response_headers_to_add": [
            {
                "header": {"key": "grpc-retry-pushback-ms", "value": "%RESP(x-sensorium-retry-pushback-ms)%"},
                "append_action": "ADD_IF_ABSENT",
            }
        ],
    }
    if mesh.cors_origins:
        host["typed_per_filter_config"] = {CORS: allow_origins(mesh)}
    return {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": ROUTES,
        "virtual_hosts": [host],
    }


def _control_routes(mesh: Mesh) -> Iterator[Json]:
    unlocked = open_services(mesh)
    for name in (HEALTH, *REFLECTIONS):
        route = _to_control({"prefix": f"/{name}/"}, None)
        if name in unlocked:
            settings = route["typed_per_filter_config"]
            assert isinstance(settings, dict)
            settings[RATE_LIMIT] = render_anonymous_limit(mesh)
        yield route
    yield _to_control({"prefix": f"/{MESH}/"}, mesh.mesh_scope, longest_s(mesh))
    for name in ADMINISTRATION:
        yield _to_control({"path": f"/{INFERENCE}/{name}"}, mesh.admin_scope, longest_s(mesh))


def _stream_paths(mesh: Mesh, contract: Contract) -> list[str]:
    services = [INFERENCE, *(name for service in mesh.services for name in service.grpc)]
    return [method.path for name in services for method in contract.services[name] if method.client_streaming]


def _kinds(methods: Iterable[Method]) -> list[list[Method]]:
    """Those that share a route, because they are repeated and timed alike."""
    found: dict[tuple[bool, bool], list[Method]] = {}
    for method in methods:
        found.setdefault((method.client_streaming, method.repeatable), []).append(method)
    return list(found.values())


def _typed_routes(
    mesh: Mesh, service: Service, methods: Sequence[Method], catalog: Catalog
) -> Iterator[Json]:
    """Named models go where they are ready, under their bare and their public name; no name means the default's."""
    for group in _kinds(methods):
        named = [method for method in group if method.model_field]
        if named:
            for model in sorted(catalog.ready_models(service.name)):
                for name in (model, f"{service.name}/{model}"):
                    match = {**_paths(methods, named), "headers": [_named(name)]}
                    yield _to_service(mesh, service, match, {MODEL_KEY: model}, named[0])
        for method in group:
            unnamed = [_named(None)] if method.model_field else []
            default = catalog.default_ready(service.name, method.name)
            if default is None:
                # No model is the default of this rpc as far as is known: any replica may know better.
                if not catalog.in_rotation(service.name):
                    continue
                subset = {ANY_KEY: "yes"}
            elif default:
                subset = {RPC_KEY: method.name}
            else:
                continue
            yield _to_service(mesh, service, {"path": method.path, "headers": unnamed}, subset, method)


def _inference_routes(
    mesh: Mesh, service: Service, methods: Sequence[Method], catalog: Catalog
) -> Iterator[Json]:
    """Where a version is named that some replicas lack, it decides too; where all have the same ones, they know best.

    Who names no version gets the default one of the replica he comes to: while replicas follow one another to a new
    version, that is now the old one, now the new one.
    """
    for named in _kinds(method for method in methods if method.model_field):
        paths = _paths(methods, named)
        versioned = sorted(catalog.split_versions(service.name)) if named[0].version_field else []
        for model, version in versioned:
            for name in _names(catalog, service, model):
                match = {**paths, "headers": [_named(name), _versioned(version)]}
                yield _to_service(mesh, service, match, {MODEL_KEY: f"{model}@{version}"}, named[0])
        for model in sorted(catalog.ready_names(service.name)):
            for name in _names(catalog, service, model):
                match = {**paths, "headers": [_named(name)]}
                yield _to_service(mesh, service, match, {MODEL_KEY: model}, named[0])


def _names(catalog: Catalog, service: Service, model: str) -> tuple[str, ...]:
    public = f"{service.name}/{model}"
    return (model, public) if catalog.is_unique(model) else (public,)


def _paths(methods: Sequence[Method], chosen: Sequence[Method]) -> Json:
    """Matches the paths of `chosen`, by their common prefix if they are all there are."""
    service = methods[0].service
    if len(chosen) == 1:
        return {"path": chosen[0].path}
    if len(chosen) == len(methods):
        return {"prefix": f"/{service}/"}
    names = "|".join(re.escape(method.name) for method in chosen)
    return {"safe_regex": {"regex": f"/{re.escape(service)}/(?:{names})"}}


def _named(name: str | None) -> Json:
    if name is None:
        return {"name": MODEL_HEADER, "present_match": False}
    return {"name": MODEL_HEADER, "string_match": {"exact": name}}


def _versioned(version: str) -> Json:
    return {"name": VERSION_HEADER, "string_match": {"exact": version}}


def _to_service(mesh: Mesh, service: Service, match: Json, subset: dict[str, str], method: Method) -> Json:
    """method: any of those that `match` takes, which are of one kind."""
    timeouts = service.timeouts or mesh.timeouts
    stream = method.client_streaming
    return {
        "match": {**match, "grpc": {}},
        "route": {
            "cluster": service.name,
            "metadata_match": {"filter_metadata": {"envoy.lb": subset}},
            # The caller's own may be one that a replica's front cannot read, and is of no use to it.
            "host_rewrite_literal": service.name,
            # What went out on a stream cannot be taken back, and is not kept to be sent again.
            "retry_policy": _retry(mesh.retries, method.repeatable and not stream),
            **(_stream_end(timeouts.stream_s) if stream else _deadline(timeouts.max_s)),
        },
        "typed_per_filter_config": {RBAC_BY_MODEL: allow(service.required_scope)},
    }


def _to_control(match: Json, scope: str | None, limit_s: float = 0.0) -> Json:
    """limit_s: how long it may take altogether; 0: a watch lasts and stays silent as long as the watcher wants."""
    limit = f"{limit_s:g}s"
    return {
        "match": {**match, "grpc": {}},
        "route": {
            "cluster": CONTROL,
            "timeout": "0s",
            "idle_timeout": limit,
            "max_stream_duration": {"max_stream_duration": limit},
        },
        "typed_per_filter_config": {RBAC_BY_MODEL: allow(scope)},
    }


def _deadline(max_s: float) -> Json:
    # `timeout` would start anew with the body's last byte; the stream's duration counts from its first.
    limit = f"{max_s}s"
    return {
        "timeout": "0s",
        "max_stream_duration": {"max_stream_duration": limit, "grpc_timeout_header_max": limit},
    }


def _stream_end(limit_s: float) -> Json:
    # Its one bound is on how long it lasts, busy or not. Once answers flow a cut from here would look like a broken stream:
    # the replica, which has the same deadline, goes first and says what it was.
    limit = f"{limit_s + _GRACE_S:g}s"
    return {"timeout": "0s", "idle_timeout": limit, "max_stream_duration": {"max_stream_duration": limit}}


def _retry(retries: Retries, repeatable: bool) -> Json:
    return {
        "retry_on": _RETRY_ALL if repeatable else _RETRY_UNSEEN,
        "num_retries": retries.attempts,
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": _MAX_DRAWS,
        # The other replica is likely there at once; only a second failure is worth waiting for.
        "retry_back_off": {"base_interval": "0.01s", "max_interval": "0.25s"},
    }
