"""Which replica set a call goes to, by path and by the model it names. Pure; changes with what the replicas have ready.

A route that is not there is an answer of the control plane: whatever cannot be served ends in the last route, and the
control plane says why (gateway/control/refusal.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from gateway.config import Mesh, Retries, Service
from gateway.contract import HEALTH, INFERENCE, MESH, REFLECTIONS, Contract, Method
from gateway.discovery.catalog import Catalog
from gateway.envoy import Json
from gateway.envoy.clusters import ANY_KEY, CONTROL, MODEL_KEY, RPC_KEY
from gateway.envoy.filters import (
    CORS,
    MODEL_HEADER,
    RBAC_BY_MODEL,
    allow,
    allow_origins,
    open_services,
)
from gateway.envoy.listener import ROUTES
from gateway.envoy.rates import RATE_LIMIT, render_anonymous_limit

# Whether an attempt reached a replica is not always known: what must not be repeated is tried again only where it is certain
# that no replica saw it.
_RETRY_UNSEEN = "connect-failure,refused-stream"
_RETRY_ALL = f"{_RETRY_UNSEEN},unavailable,reset"
# Draws until one is found that was not tried before; more than any set has replicas on one machine.
_MAX_DRAWS = 20


def render_routes(mesh: Mesh, contract: Contract, catalog: Catalog) -> Json:
    """`RouteConfiguration`; the first route that matches counts."""
    routes: list[Json] = list(_control_routes(mesh))
    for service in mesh.services:
        for name in service.grpc:
            routes += _typed_routes(mesh, service, contract.services[name], catalog)
    for service in mesh.services:
        routes += _inference_routes(mesh, service, contract.services[INFERENCE], catalog)
    # Everything else that is gRPC is refused in words.
    routes.append(_to_control({"prefix": "/", "grpc": {}}, None))
    # Until it was made gRPC a request in JSON has this route, and with it the CORS rules; JSON for no method does not pass
    # the transcoder.
    routes.append({**_to_control({"prefix": "/"}, None), "match": {"prefix": "/"}})
    host: Json = {
        "name": "mesh",
        "domains": ["*"],
        "routes": routes,
        # What is kept of a request until it is answered, so that it can be sent again: all of it.
        "request_body_buffer_limit": mesh.limits.max_message_bytes,
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
    yield _to_control({"prefix": f"/{MESH}/"}, mesh.mesh_scope)


def _typed_routes(
    mesh: Mesh, service: Service, methods: Sequence[Method], catalog: Catalog
) -> Iterator[Json]:
    """Named models go where they are ready, under their bare and their public name; no name means the default's."""
    for repeatable in (True, False):
        group = [method for method in methods if method.repeatable is repeatable]
        named = [method for method in group if method.model_field]
        if named:
            for model in sorted(catalog.ready_models(service.name)):
                for name in (model, f"{service.name}/{model}"):
                    match = {**_paths(methods, named), "headers": [_named(name)]}
                    yield _to_service(mesh, service, match, {MODEL_KEY: model}, repeatable)
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
            yield _to_service(mesh, service, {"path": method.path, "headers": unnamed}, subset, repeatable)


def _inference_routes(
    mesh: Mesh, service: Service, methods: Sequence[Method], catalog: Catalog
) -> Iterator[Json]:
    for repeatable in (True, False):
        named = [method for method in methods if method.model_field and method.repeatable is repeatable]
        if not named:
            continue
        for model in sorted(catalog.ready_names(service.name)):
            public = f"{service.name}/{model}"
            for name in (model, public) if catalog.is_unique(model) else (public,):
                match = {**_paths(methods, named), "headers": [_named(name)]}
                yield _to_service(mesh, service, match, {MODEL_KEY: model}, repeatable)


def _paths(methods: Sequence[Method], chosen: Sequence[Method]) -> Json:
    """Matches the paths of `chosen`, by their common prefix if they are all there are."""
    service = methods[0].service
    if len(chosen) == len(methods):
        return {"prefix": f"/{service}/"}
    names = "|".join(re.escape(method.name) for method in chosen)
    return {"safe_regex": {"regex": f"/{re.escape(service)}/(?:{names})"}}


def _named(name: str | None) -> Json:
    if name is None:
        return {"name": MODEL_HEADER, "present_match": False}
    return {"name": MODEL_HEADER, "string_match": {"exact": name}}


def _to_service(mesh: Mesh, service: Service, match: Json, subset: dict[str, str], repeatable: bool) -> Json:
    timeouts = service.timeouts or mesh.timeouts
    return {
        "match": {**match, "grpc": {}},
        "route": {
            "cluster": service.name,
            "metadata_match": {"filter_metadata": {"envoy.lb": subset}},
            # The caller's own may be one that a replica's front cannot read, and is of no use to it.
            "host_rewrite_literal": service.name,
            "retry_policy": _retry(mesh.retries, repeatable),
            **_deadline(timeouts.max_s),
        },
        "typed_per_filter_config": {RBAC_BY_MODEL: allow(service.required_scope)},
    }


def _to_control(match: Json, scope: str | None) -> Json:
    return {
        "match": {**match, "grpc": {}},
        # No bound on how long a watch lasts or stays silent; the others answer at once.
        "route": {
            "cluster": CONTROL,
            "timeout": "0s",
            "idle_timeout": "0s",
            "max_stream_duration": {"max_stream_duration": "0s"},
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
