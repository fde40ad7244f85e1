"""Channels for our own onward calls, and what goes along with them: request id, trace, deadline."""

from __future__ import annotations

import time

import grpc

from shared.rpc.call import REQUEST_ID_HEADER, TRACEPARENT_HEADER
from shared.rpc.deadline import DEADLINE_HEADER, Deadline
from shared.telemetry.correlation import current_correlation

# Replicas are on this machine or in this cluster: a peer that does not answer a ping for 5 s is gone.
_KEEPALIVE_S, _KEEPALIVE_TIMEOUT_S = 20, 5
# A replica that came back is found again within a second, and not after the default two minutes.
_BACKOFF_MIN_MS, _BACKOFF_MAX_MS = 100, 1_000
# How long one attempt may take, which gRPC calls the minimum of the back-off: a peer under load needs a while to say hello,
# one that is gone refuses at once.
_CONNECT_TIMEOUT_MS = 5_000


def channel(address: str, *, max_message_bytes: int = 32 * 1024 * 1024) -> grpc.aio.Channel:
    """A channel to `host:port` or `unix:/path`; keep it for as long as the peer is of interest, and close it.

    It does not retry: who calls decides whether a call may be repeated.
    """
    return grpc.aio.insecure_channel(
        address,
        options=[
            ("grpc.enable_retries", 0),
            ("grpc.keepalive_time_ms", _KEEPALIVE_S * 1000),
            ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_S * 1000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.initial_reconnect_backoff_ms", _BACKOFF_MIN_MS),
            ("grpc.min_reconnect_backoff_ms", _CONNECT_TIMEOUT_MS),
            ("grpc.max_reconnect_backoff_ms", _BACKOFF_MAX_MS),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            # A proxy from the environment is for the outside world.
            ("grpc.enable_http_proxy", 0),
        ],
    )


def make_onward_metadata(deadline: Deadline | None = None) -> tuple[tuple[str, str], ...]:
    """Metadata by which a call made on behalf of the current one keeps its request id, trace and deadline."""
    correlation = current_correlation()
    metadata: list[tuple[str, str]] = []
    if correlation.request_id:
        metadata.append((REQUEST_ID_HEADER, correlation.request_id))
    if (trace := correlation.trace) is not None:
        metadata.append((TRACEPARENT_HEADER, trace.make_child().to_header()))
    if deadline is not None:
        metadata.append((DEADLINE_HEADER, str(int((time.time() + deadline.remaining_s()) * 1000))))
    return tuple(metadata)
