"""Headers and trailers of ours: what each is called, what a caller may send of them, and what he gets to see. Pure."""

from __future__ import annotations

from pathlib import Path

from gateway.envoy import Json
from shared.rpc.call import PUSHBACK_TRAILERS
from shared.rpc.caller import PRIORITY_HEADER
from shared.rpc.load import LOAD_TRAILER
from shared.rpc.report import (
    BATCH_SIZE_TRAILER,
    BATCH_TRAILER,
    COMPUTE_TRAILER,
    MODEL_VERSION_TRAILER,
    QUEUE_TRAILER,
)

_REPORT = Path(__file__).parent / "report.lua"
VERSION_HEADER = "x-sensorium-version"
# What the request was when it came in: `content-type` is rewritten on the way, and Envoy's own replies need to know
# until the last moment, which is why it stays on the request up to the replica.
FACE_HEADER = "x-sensorium-face"
# For stamp.lua, which takes them off again.
START_HEADER = "x-sensorium-start"
TIMEOUT_HEADER = "x-sensorium-timeout"
# Where PRIORITY_HEADER stands while all that begins with x-sensorium- is taken off. It is the one header of ours that a
# caller may send: it can only put him behind others.
_KEPT_PRIORITY = "x-kept-priority"
# What replicas say in trailers of how a reply came about; a page may read them.
REPORT_TRAILERS = (
    QUEUE_TRAILER,
    BATCH_TRAILER,
    COMPUTE_TRAILER,
    BATCH_SIZE_TRAILER,
    MODEL_VERSION_TRAILER,
)
# When a client that retries should do so (gRFC A6), and how it is called by a front that keeps `grpc-` to itself.
PUSHBACK_TRAILER = PUSHBACK_TRAILERS["grpcio"]
_REPLICA_PUSHBACK_TRAILER = PUSHBACK_TRAILERS["native"]
# Per-route settings are looked up by this name.
REPORT_IN_HEADERS = "sensorium.report_in_headers"
_HTTP = "type.googleapis.com/envoy.extensions.filters.http"


def render_early_mutations() -> list[Json]:
    """What is done to a request before anything reads it: headers that only we may set are taken off."""
    prefixes: list[Json] = [
        {"remove_on_match": {"key_matcher": {"prefix": prefix}}}
        # x-envoy-* would let a caller choose retries and timeouts.
        for prefix in ("x-sensorium-", "x-envoy-")
    ]
    # In this order; a value that is empty leaves the header as it was.
    stamps = {
        # With the semicolon it is there even where there is no type.
        FACE_HEADER: "%REQ(CONTENT-TYPE)%;",
        TIMEOUT_HEADER: "%REQ(GRPC-TIMEOUT)%",
        START_HEADER: "%START_TIME(%s%3f)%",
        PRIORITY_HEADER: f"%REQ({_KEPT_PRIORITY})%",
    }
    mutations: list[Json] = [
        # One that a caller sent under that name would pass for his priority.
        {"remove": _KEPT_PRIORITY},
        _set(_KEPT_PRIORITY, f"%REQ({PRIORITY_HEADER})%"),
        *prefixes,
        *(_set(name, value) for name, value in stamps.items()),
        {"remove": _KEPT_PRIORITY},
    ]
    return [
        {
            "name": "envoy.http.early_header_mutation.header_mutation",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                "mutations": mutations,
            },
        }
    ]


def render_report_in_headers() -> Json:
    """JSON has no trailers that clients would read: what they say goes into headers. Only the route of JSON has it run."""
    lines = "\n".join(f'  "{name}",' for name in REPORT_TRAILERS)
    code = f"local NAMES = {{\n{lines}\n}}\n{_REPORT.read_text()}"
    return {
        "name": REPORT_IN_HEADERS,
        "disabled": True,
        "typed_config": {
            "@type": f"{_HTTP}.lua.v3.Lua",
            "default_source_code": {"inline_string": code},
        },
    }


def enable() -> Json:
    """Per-route setting that has a filter run which does not do so otherwise."""
    return {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}


def render_reply_mutations() -> Json:
    """What is done to replies: words between replicas and us are taken off, or put as clients know them."""

    def mutations(where: str) -> list[Json]:
        return [
            {"remove": LOAD_TRAILER},
            _set(PUSHBACK_TRAILER, f"%{where}({_REPLICA_PUSHBACK_TRAILER})%"),
            {"remove": _REPLICA_PUSHBACK_TRAILER},
        ]

    return {
        "name": "envoy.filters.http.header_mutation",
        "typed_config": {
            "@type": f"{_HTTP}.header_mutation.v3.HeaderMutation",
            # A reply without a message has its trailers in its headers.
            "mutations": {
                "response_mutations": mutations("RESP"),
                "response_trailers_mutations": mutations("TRAILER"),
            },
        },
    }


def _set(name: str, value: str) -> Json:
    return {
        "append": {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    }
