"""Spans of calls at the gateway: which calls are recorded, and where Envoy sends them. Pure.

A caller's own `traceparent` decides, yes or no; where there is none, chance does. What was decided goes on to the replica in
`traceparent`, and holds there.
"""

from __future__ import annotations

from gateway.envoy import Json
from shared.telemetry.tracing import TraceSettings, split_endpoint

# With an underscore no service can have its name.
TRACES_CLUSTER = "trace_store"
_TIMEOUT_S = 5.0
_MILLION = 1_000_000
_SAMPLERS = "type.googleapis.com/envoy.extensions.tracers.opentelemetry.samplers.v3"


def render_tracing(traces: TraceSettings) -> Json | None:
    """What the public listener records; None if nothing."""
    if traces.endpoint is None:
        return None
    uri = f"{traces.endpoint.rstrip('/')}/v1/traces"
    return {
        # Envoy's own chance is asked before the caller is; the sampler below asks him first.
        "random_sampling": {"value": 100},
        # One span for the call, and one for each try of it.
        "spawn_upstream_span": True,
        "custom_tags": [{"tag": "sensorium.model", "request_header": {"name": "x-sensorium-model"}}],
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                "http_service": {
                    "http_uri": {"uri": uri, "cluster": TRACES_CLUSTER, "timeout": f"{_TIMEOUT_S}s"}
                },
                "service_name": "gateway",
                "sampler": _render_sampler(traces.share),
            },
        },
    }


def _render_sampler(share: float) -> Json:
    chance: Json = {
        "name": "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based",
        "typed_config": {
            "@type": f"{_SAMPLERS}.TraceIdRatioBasedSamplerConfig",
            "sampling_percentage": {"numerator": round(share * _MILLION), "denominator": "MILLION"},
        },
    }
    return {
        "name": "envoy.tracers.opentelemetry.samplers.parent_based",
        "typed_config": {"@type": f"{_SAMPLERS}.ParentBasedSamplerConfig", "wrapped_sampler": chance},
    }


def render_traces_cluster(endpoint: str) -> Json:
    """The store, by its name, which is looked up anew as its records end."""
    host, port = split_endpoint(endpoint)
    address: Json = {"socket_address": {"address": host, "port_value": port}}
    return {
        "name": TRACES_CLUSTER,
        "type": "STRICT_DNS",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": TRACES_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
