"""The HTTP filters a call passes, in their order, with the reason for each place. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from gateway.config import Mesh, Timeouts
from gateway.contract import HEALTH, INFERENCE, MESH, REFLECTIONS, Contract, Method
from gateway.envoy import Json
from gateway.envoy.files import render_source
from gateway.envoy.headers import (
    PUSHBACK_TRAILER,
    REPORT_TRAILERS,
    render_reply_mutations,
    render_report_in_headers,
)
from gateway.envoy.rates import render_rate_limit
from shared.rpc.caller import PRINCIPAL_HEADER, PRIORITY_HEADER, TIER_HEADER

STAMP = Path(__file__).parent / "stamp.lua"
# Per-route settings are looked up by these names.
RBAC_BY_MODEL = "sensorium.rbac_by_model"
CORS = "envoy.filters.http.cors"
_JWT = "envoy.filters.http.jwt_authn"
_HTTP = "type.googleapis.com/envoy.extensions.filters.http"
_JWT_TYPE = f"{_HTTP}.jwt_authn.v3.JwtAuthentication"
# Envoy's figure of which version of the token filter it goes by.
TOKENS_VERSION = r"extension_config_discovery\.http_filter\.envoy\.filters\.http\.jwt_authn\.version_text$"
# Signatures checked already are not checked again, until the keys change; an entry is a few hundred bytes.
_JWT_CACHE_SIZE = 1_000


def render_filters(mesh: Mesh, contract: Contract, folder: Path, descriptors: Path) -> list[Json]:
    """The whole chain. folder: where the file of the token filter lies. descriptors: file with `contract.serialized()`."""
    # Before the token: a browser asks for permission without one.
    cors: list[Json] = [{"name": CORS, "typed_config": {"@type": f"{_HTTP}.cors.v3.Cors"}}]
    return [
        *(cors if mesh.cors_origins else []),
        # Outermost of what rewrites: its answer to the browser wraps those of all others.
        {"name": "envoy.filters.http.grpc_web", "typed_config": {"@type": f"{_HTTP}.grpc_web.v3.GrpcWeb"}},
        # Nothing of the body is read before the caller is known.
        _tokens(folder),
        # Refuses by path before a byte is buffered. What decides is the second one, behind all rewriting.
        _rbac_by_path(mesh, contract),
        # Only calls that are allowed use up a client's rate.
        render_rate_limit(mesh, {"key": _JWT, "path": [{"key": "claims"}, {"key": "sub"}]}),
        # Outside of what rewrites: it sees the reply as it will be sent.
        render_report_in_headers(),
        # Rewrites path and body of HTTP/JSON to gRPC: what follows sees one form only.
        _json(contract, descriptors, mesh.limits.max_message_bytes),
        # Buffers the first message and takes the model's name out of it.
        _model_name(contract, descriptors),
        # Stamps it, and has the route chosen anew.
        _stamp(mesh, contract),
        # Refuses everything but what the chosen route allows.
        {
            "name": RBAC_BY_MODEL,
            "typed_config": {"@type": f"{_HTTP}.rbac.v3.RBAC", "rules": {"action": "ALLOW", "policies": {}}},
        },
        # Next to the replica, whose words it takes off or puts right.
        render_reply_mutations(),
        {
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": f"{_HTTP}.router.v3.Router", "suppress_envoy_headers": True},
        },
    ]


def allow(scope: str | None) -> Json:
    """Per-route setting that lets callers with `scope` through; None: everybody who came this far."""
    return {
        "@type": f"{_HTTP}.rbac.v3.RBACPerRoute",
        "rbac": {"rules": {"action": "ALLOW", "policies": {"route": _policy([{"any": True}], scope)}}},
    }


def allow_origins(mesh: Mesh) -> Json:
    """Per-host setting of who may call from a browser."""
    return {
        "@type": f"{_HTTP}.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"exact": origin} for origin in mesh.cors_origins],
        "allow_methods": "GET, POST, PUT, PATCH, DELETE, OPTIONS",
        "allow_headers": "authorization, x-api-key, content-type, grpc-timeout, x-grpc-web, x-user-agent, traceparent, "
        + PRIORITY_HEADER,
        "expose_headers": ", ".join(
            [
                *("grpc-status", "grpc-message", "grpc-status-details-bin", PUSHBACK_TRAILER),
                *("retry-after", "x-request-id", *REPORT_TRAILERS),
            ]
        ),
        "max_age": "7200",
    }


def tokens_path(folder: Path) -> Path:
    """File with the token filter."""
    return folder / "tokens.json"


def _tokens(folder: Path) -> Json:
    """The place of the filter that checks tokens, whose keys may change. Without its file every call is refused."""
    return {
        "name": _JWT,
        "config_discovery": {
            "config_source": render_source(tokens_path(folder)),
            "type_urls": [_JWT_TYPE],
        },
    }


def render_tokens(mesh: Mesh, jwks: str) -> Json:
    """`TypedExtensionConfig` of the filter that checks tokens. jwks: public keys as JSON."""
    provider: Json = {
        "issuer": mesh.auth.issuer,
        "audiences": [mesh.auth.audience],
        "local_jwks": {"inline_string": jwks},
        # The token opens this gateway; a replica has no use for it.
        "forward": False,
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}, {"name": "x-api-key"}],
        "payload_in_metadata": "claims",
        # Issuers that follow RFC 8693 write scopes as one string; ours writes a list.
        "normalize_payload_in_metadata": {"space_delimited_claims": ["scope"]},
        "claim_to_headers": [
            {"header_name": PRINCIPAL_HEADER, "claim_name": "sub"},
            {"header_name": TIER_HEADER, "claim_name": "tier"},
        ],
        "require_expiration": True,
        "clock_skew_seconds": mesh.auth.clock_skew_s,
        "jwt_cache_config": {"jwt_cache_size": _JWT_CACHE_SIZE},
    }
    rules: list[Json] = [{"match": {"prefix": f"/{service}/"}} for service in open_services(mesh)]
    rules.append({"match": {"prefix": "/"}, "requires": {"provider_name": "mesh"}})
    return {
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": _JWT,
        "typed_config": {"@type": _JWT_TYPE, "providers": {"mesh": provider}, "rules": rules},
    }


def open_services(mesh: Mesh) -> tuple[str, ...]:
    """gRPC services that may be called without a token."""
    health = (HEALTH,) if "health" in mesh.auth.open else ()
    return health + (REFLECTIONS if "reflection" in mesh.auth.open else ())


def _rbac_by_path(mesh: Mesh, contract: Contract) -> Json:
    owners = [(service.name, service.grpc, service.required_scope) for service in mesh.services]
    owners.append(("control", (MESH,), mesh.mesh_scope))
    guarded = [
        (name, [path for service in services for path in _paths(service, contract.services[service])], scope)
        for name, services, scope in owners
    ]
    administration: list[Json] = [
        {"url_path": {"path": {"exact": method.path}}}
        for method in contract.services[INFERENCE]
        if method.administrative
    ]
    guarded.append(("admin", administration, mesh.admin_scope))
    policies: Json = {}
    known: list[Json] = []
    for name, paths, scope in guarded:
        policies[name] = _policy(paths, scope)
        known += paths
    # Everything else ends in an answer of the control plane or a 404; the route has the last word on it.
    policies["else"] = _policy([{"not_rule": {"or_rules": {"rules": known}}}], None)
    return {
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": f"{_HTTP}.rbac.v3.RBAC",
            "rules": {"action": "ALLOW", "policies": policies},
        },
    }


def _paths(service: str, methods: Sequence[Method]) -> list[Json]:
    """All paths of a gRPC service: its own, and those its methods have over HTTP/JSON."""
    json: list[Json] = [
        {"url_path": {"path": {"safe_regex": {"regex": path}}}}
        for method in methods
        for path in method.json_paths
    ]
    return [{"url_path": {"path": {"prefix": f"/{service}/"}}}, *json]


def _policy(permissions: Sequence[Json], scope: str | None) -> Json:
    if scope is None:
        return {"permissions": list(permissions), "principals": [{"any": True}]}
    holds: Json = {
        "filter": _JWT,
        "path": [{"key": "claims"}, {"key": "scope"}],
        "value": {"list_match": {"one_of": {"string_match": {"exact": scope}}}},
    }
    return {
        "permissions": list(permissions),
        "principals": [{"sourced_metadata": {"metadata_matcher": holds, "metadata_source": "DYNAMIC"}}],
    }


def _json(contract: Contract, descriptors: Path, max_message_bytes: int) -> Json:
    services = sorted(
        name for name, methods in contract.services.items() if any(method.json_paths for method in methods)
    )
    # base64 in JSON is a third longer than the bytes it stands for.
    body_bytes = max_message_bytes * 3 // 2
    return {
        "name": "envoy.filters.http.grpc_json_transcoder",
        "typed_config": {
            "@type": f"{_HTTP}.grpc_json_transcoder.v3.GrpcJsonTranscoder",
            "proto_descriptor": str(descriptors),
            "services": services,
            # Zeros are answers: a score of 0, the label with index 0.
            "print_options": {"always_print_primitive_fields": True, "stream_newline_delimited": True},
            "convert_grpc_status": True,
            "request_validation_options": {
                "reject_unknown_method": True,
                "reject_unknown_query_parameters": True,
                "reject_binding_body_field_collisions": True,
            },
            "max_request_body_size": body_bytes,
            "max_response_body_size": body_bytes,
        },
    }


def _model_name(contract: Contract, descriptors: Path) -> Json:
    methods: Json = {
        f"{method.service}.{method.name}": {
            "request_field_extractions": {
                field: {} for field in (method.model_field, method.version_field) if field
            }
        }
        for methods in contract.services.values()
        for method in methods
        if method.model_field
    }
    return {
        "name": "envoy.filters.http.grpc_field_extraction",
        "typed_config": {
            "@type": f"{_HTTP}.grpc_field_extraction.v3.GrpcFieldExtractionConfig",
            "descriptor_set": {"filename": str(descriptors)},
            "extractions_by_method": methods,
        },
    }


def _stamp(mesh: Mesh, contract: Contract) -> Json:
    bounds = {"": _milliseconds(mesh.timeouts)}
    for service in mesh.services:
        timeouts = service.timeouts or mesh.timeouts
        for name in service.grpc:
            bounds[name] = _milliseconds(timeouts)
            for method in contract.services[name]:
                if method.streaming:
                    # A stream lasts as long as there is something to say.
                    longest_ms = (
                        round(1000 * timeouts.stream_s) if method.client_streaming else bounds[name][1]
                    )
                    bounds[method.path] = (longest_ms, longest_ms)
    for method in contract.services[INFERENCE]:
        if method.client_streaming:
            bounds[method.path] = (round(1000 * mesh.timeouts.stream_s),) * 2
    for service_name in (HEALTH, *REFLECTIONS):
        # Watches have no end of their own.
        bounds[service_name] = (0, bounds[""][1])
    lines = [
        f'["{key}"] = {{ {default_ms}, {max_ms} }},'
        for key, (default_ms, max_ms) in bounds.items()
        if re.fullmatch(r"[\w./]*", key)
    ]
    code = "local BOUNDS = { " + " ".join(lines) + " }\n" + STAMP.read_text()
    return {
        "name": "envoy.filters.http.lua",
        "typed_config": {"@type": f"{_HTTP}.lua.v3.Lua", "default_source_code": {"inline_string": code}},
    }


def _milliseconds(timeouts: Timeouts) -> tuple[int, int]:
    return round(timeouts.default_s * 1000), round(timeouts.max_s * 1000)
