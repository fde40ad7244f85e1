"""Envoy's own replies, rendered from the table in `shared.errors`: one wording on every face. Pure."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Sequence

import grpc
from google.protobuf import json_format

from gateway.envoy import Json
from gateway.envoy.headers import FACE_HEADER
from shared.errors import GATEWAY_REPLIES, GatewayReply

# HTTP statuses that say it better than the one Envoy chose; others stay.
_HTTP_BY_CODE = {grpc.StatusCode.UNAUTHENTICATED: 401, grpc.StatusCode.UNAVAILABLE: 503}
_HTTP_BY_REASON = {"MESSAGE_TOO_LARGE": 413, "OVERLOADED": 429}
# What Envoy found wrong with the JSON or its field: the one text of Envoy's that tells the caller something.
_QUOTED_REASON = "MALFORMED_REQUEST"


def render_replies(
    max_message_bytes: int, max_headers_kib: int, replies: Sequence[GatewayReply] = GATEWAY_REPLIES
) -> Json:
    """`local_reply_config`: for each reply one form for gRPC and gRPC-Web, and one for HTTP/JSON."""
    mappers: list[Json] = []
    for reply in replies:
        message = reply.message.replace("{max_message}", _size(max_message_bytes))
        message = message.replace("{max_headers}", f"{max_headers_kib} KiB")
        worded = dataclasses.replace(reply, message=message)
        mappers += [_grpc(worded), _json(worded)]
    return {"mappers": mappers}


def _size(size_bytes: int) -> str:
    """In whole MiB if it is that, else in bytes."""
    mib, rest = divmod(size_bytes, 1 << 20)
    return f"{size_bytes} bytes" if rest else f"{mib} MiB"


def _grpc(reply: GatewayReply) -> Json:
    # grpc-message is the body; Envoy percent-encodes it. The other two would be guessed from the HTTP status.
    details = base64.b64encode(reply.to_status().SerializeToString()).rstrip(b"=").decode()
    return {
        "filter": _filter(reply, [_is_grpc()]),
        "status_code": _http_status(reply),
        "body_format_override": {"text_format_source": {"inline_string": _text(reply)}},
        "headers_to_add": [
            _header("grpc-status", str(reply.code.value[0])),
            _header("grpc-status-details-bin", details),
            *_retry_after(reply),
            *_pushback(reply),
        ],
    }


def _json(reply: GatewayReply) -> Json:
    status = json_format.MessageToDict(reply.to_status())
    # MessageToDict leaves an empty list out; callers should not have to look for it.
    body = {"code": reply.code.value[0], "message": _text(reply), "details": status.get("details", [])}
    return {
        "filter": _filter(reply, []),
        "status_code": _http_status(reply),
        "body_format_override": {
            "json_format": _literal(body, keep=_text(reply)),
            "content_type": "application/json",
        },
        "headers_to_add": _retry_after(reply),
    }


def _text(reply: GatewayReply) -> str:
    if reply.reason == _QUOTED_REASON:
        return reply.message.replace("%", "%%") + " (%LOCAL_REPLY_BODY%)"
    return reply.message.replace("%", "%%")


def _literal(value: object, *, keep: str) -> object:
    """Doubles the percent signs of everything but `keep`, which is a format already."""
    if isinstance(value, dict):
        return {key: _literal(one, keep=keep) for key, one in value.items()}
    if isinstance(value, list):
        return [_literal(one, keep=keep) for one in value]
    if isinstance(value, str) and value != keep:
        return value.replace("%", "%%")
    return value


def _filter(reply: GatewayReply, also: Sequence[Json]) -> Json:
    """Matches the reply by HTTP status, then by response flags and code details where it names any."""
    found: list[Json] = [
        {
            "status_code_filter": {
                "comparison": {"op": "EQ", "value": {"default_value": reply.http_status, "runtime_key": "-"}}
            }
        }
    ]
    if reply.flags:
        found.append({"response_flag_filter": {"flags": list(reply.flags)}})
    if reply.details:
        expression = f'response.code_details.startsWith("{reply.details}")'
        found.append(
            {
                "extension_filter": {
                    "name": "envoy.access_loggers.extension_filters.cel",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
                        "expression": expression,
                    },
                }
            }
        )
    found += also
    return found[0] if len(found) == 1 else {"and_filter": {"filters": found}}


def _is_grpc() -> Json:
    """By what the request was when it came; one that was refused before that was kept still is what it was."""

    def header(name: str, match: Json) -> Json:
        return {"header_filter": {"header": {"name": name, **match}}}

    begins: Json = {"string_match": {"prefix": "application/grpc"}}
    early = [header(FACE_HEADER, {"present_match": False}), header("content-type", begins)]
    return {"or_filter": {"filters": [header(FACE_HEADER, begins), {"and_filter": {"filters": early}}]}}


def _http_status(reply: GatewayReply) -> int:
    return _HTTP_BY_REASON.get(reply.reason) or _HTTP_BY_CODE.get(reply.code, reply.http_status)


def _retry_after(reply: GatewayReply) -> list[Json]:
    if reply.retry_after_s is None:
        return []
    return [_header("retry-after", str(max(1, round(reply.retry_after_s))))]


def _pushback(reply: GatewayReply) -> list[Json]:
    """As replicas say it, by gRFC A6: milliseconds until a client should try again, -1 for never."""
    if reply.retry_after_s is not None:
        return [_header("grpc-retry-pushback-ms", str(round(reply.retry_after_s * 1000)))]
    exhausted = reply.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    return [_header("grpc-retry-pushback-ms", "-1")] if exhausted else []


def _header(key: str, value: str) -> Json:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
