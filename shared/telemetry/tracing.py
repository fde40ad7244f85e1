"""Spans of calls that their callers want recorded, sent to a trace store as OTLP over HTTP.

Who is recorded is decided where a trace begins, by a client or by the gateway: its `traceparent` says so. A call that is not
costs one comparison here. Here: settings, spans, the thread that sends them. Not here: what is measured of a call
(`shared.rpc`), and the gateway's own spans, which Envoy sends.

The format is OpenTelemetry's OTLP/HTTP in JSON (https://opentelemetry.io/docs/specs/otlp/#otlphttp), which takes a few
lines to write. The SDK and its exporter are thirteen packages more and 7 MB, for an image that is 5 MB below its bound.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import queue
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import urlsplit

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import Field, field_validator

from shared.settings import Settings
from shared.telemetry.correlation import Correlation, TraceParent
from shared.telemetry.logging import get_logger

__all__ = ["Span", "TraceMetrics", "TraceSettings", "Value", "record", "start", "stop", "wants"]

Value: TypeAlias = str | int | float | bool

# Spans that wait to be sent, a few kilobytes each; what comes beyond is dropped, and counted.
_MAX_WAITING = 2_048
# Of one request to the store.
_MAX_SENT = 256
# How long spans wait for company.
_GATHER_S = 1.0
_SEND_TIMEOUT_S = 5.0
# For what is left when the process ends.
_LAST_WORDS_S = 2.0
_KIND_INTERNAL, _KIND_SERVER = 1, 2
# What a name server can be asked for. Of other names Python's resolver raises what is no OSError.
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*\.?")
_STATUS_ERROR = 2
# Codes that are our fault, by OpenTelemetry's conventions for servers; the others are answers.
_FAULTS = frozenset({"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})


class TraceSettings(Settings):
    """SENSORIUM_TRACE_*: where spans go, and how many calls are recorded; of every process of a mesh."""

    endpoint: str | None = None
    """`http://host:port` of a store that takes OTLP over HTTP: Tempo, Jaeger, OpenTelemetry's collector. Without one nothing
    is recorded."""
    share: float = Field(default=0.01, ge=0, le=1)
    """Of the calls whose client does not say whether it wants a trace, at the gateway."""

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, value: str | None) -> str | None:
        if value is not None:
            split_endpoint(value)
        return value


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Host and port of `http://host:port`. Raises ValueError for anything else."""
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or endpoint.rstrip("/") != f"http://{parts.netloc}" or "@" in parts.netloc:
        raise ValueError("expected http://host:port, e.g. http://tempo:4318")
    if not _is_host(host):
        raise ValueError(f"expected http://host:port with the name or the address of a host, got {host!r}")
    return host, port


def _is_host(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST.fullmatch(text) is not None
    return True


@dataclass(frozen=True, slots=True)
class Span:
    """One part of a call. begun_s, ended_s: of `time.monotonic`."""

    name: str
    begun_s: float
    ended_s: float
    attributes: dict[str, Value] = field(default_factory=dict)


class _Sender:
    """Sends spans from a thread of its own. resource: what is said of the process."""

    def __init__(self, endpoint: str, resource: dict[str, Value]) -> None:
        self._host, self._port = split_endpoint(endpoint)
        self._resource = {"attributes": _to_attributes(resource)}
        self._waiting: queue.Queue[dict[str, object] | None] = queue.Queue(_MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._log = get_logger("traces")
        self._failed = False
        self._thread.start()

    def put(self, spans: Iterable[dict[str, object]]) -> None:
        """Takes spans for the next request; drops those that find no room."""
        for span in spans:
            try:
                self._waiting.put_nowait(span)
            except queue.Full:
                _counts.dropped += 1

    def close(self) -> None:
        """Sends what waits, for a moment at most."""
        try:
            self._waiting.put(None, timeout=_LAST_WORDS_S)
        except queue.Full:
            return
        self._thread.join(_LAST_WORDS_S)

    def _run(self) -> None:
        ended = False
        while not ended:
            first = self._waiting.get()
            spans, ended = [] if first is None else [first], first is None
            until_s = time.monotonic() + _GATHER_S
            while not ended and len(spans) < _MAX_SENT:
                try:
                    span = self._waiting.get(timeout=max(0.0, until_s - time.monotonic()))
                except queue.Empty:
                    break
                if span is None:
                    ended = True
                else:
                    spans.append(span)
            if spans:
                self._send(spans)

    def _send(self, spans: Sequence[dict[str, object]]) -> None:
        scope = {"scope": {"name": "sensorium"}, "spans": spans}
        body = json.dumps({"resourceSpans": [{"resource": self._resource, "scopeSpans": [scope]}]})
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_SEND_TIMEOUT_S)
        try:
            connection.request("POST", "/v1/traces", body.encode(), {"content-type": "application/json"})
            # Its status is all: what else it says may have no end.
            answer = connection.getresponse()
            if answer.status != http.client.OK:
                raise http.client.HTTPException(f"expected status 200, got {answer.status}")
        except (OSError, http.client.HTTPException) as error:
            _counts.dropped += len(spans)
            if not self._failed:
                self._failed = True
                self._log.warning("traces cannot be sent", to=f"{self._host}:{self._port}", reason=str(error))
        else:
            _counts.sent += len(spans)
            if self._failed:
                self._failed = False
                self._log.info("traces can be sent again")
        finally:
            connection.close()


class _Counts:
    """Spans since the process began. A scrape may see one less."""

    def __init__(self) -> None:
        self.sent = self.dropped = 0


_counts = _Counts()
_sender: _Sender | None = None


class TraceMetrics(Collector):
    """What became of the process's spans."""

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus-client at every scrape."""
        spans = CounterMetricFamily(
            "sensorium_trace_spans", "Spans, by what became of them: sent or dropped.", labels=["outcome"]
        )
        spans.add_metric(["sent"], _counts.sent)
        spans.add_metric(["dropped"], _counts.dropped)
        yield spans


def start(settings: TraceSettings, service: str, instance: str) -> None:
    """Records from now on, if the settings say where to. service, instance: what the spans are told to be of."""
    global _sender
    if settings.endpoint is not None:
        resource: dict[str, Value] = {"service.name": service, "service.instance.id": instance}
        _sender = _Sender(settings.endpoint, {**resource, "service.namespace": "sensorium"})


def stop() -> None:
    """Sends what is left, and records nothing any more. Blocks for a few seconds at most."""
    global _sender
    sender, _sender = _sender, None
    if sender is not None:
        sender.close()


def wants(correlation: Correlation) -> bool:
    """Whether this call is recorded."""
    return _sender is not None and (trace := correlation.trace) is not None and trace.sampled


def record(
    service: str,
    method: str,
    code: str,
    correlation: Correlation,
    begun_s: float,
    ended_s: float,
    parts: Sequence[Span],
) -> None:
    """Records a call that `wants` said yes to: a span of its own below its caller's, and one for each part of it.

    code: its status. begun_s, ended_s: of `time.monotonic`.
    """
    sender, caller = _sender, correlation.trace
    if sender is None or caller is None:
        return
    wall_s = time.time() - time.monotonic()
    own = TraceParent(caller.trace_id, _new_span_id(), True)
    attributes: dict[str, Value] = {
        "rpc.system": "grpc",
        "rpc.service": service,
        "rpc.method": method,
        "sensorium.code": code,
        "sensorium.request_id": correlation.request_id,
    }
    whole = _render(Span(f"{service}/{method}", begun_s, ended_s, attributes), own, caller.span_id, wall_s)
    whole["kind"] = _KIND_SERVER
    if code in _FAULTS:
        whole["status"] = {"code": _STATUS_ERROR, "message": code}
    below = (
        _render(part, TraceParent(caller.trace_id, _new_span_id(), True), own.span_id, wall_s)
        for part in parts
    )
    sender.put((whole, *below))


def _render(span: Span, at: TraceParent, parent: str, wall_s: float) -> dict[str, object]:
    """One span as OTLP's JSON has it: 64-bit numbers are strings, ids are hex."""
    return {
        "traceId": at.trace_id,
        "spanId": at.span_id,
        "parentSpanId": parent,
        "name": span.name,
        "kind": _KIND_INTERNAL,
        "startTimeUnixNano": str(int((wall_s + span.begun_s) * 1e9)),
        "endTimeUnixNano": str(int((wall_s + span.ended_s) * 1e9)),
        "attributes": _to_attributes(span.attributes),
    }


def _to_attributes(values: dict[str, Value]) -> list[dict[str, object]]:
    return [{"key": key, "value": _to_value(value)} for key, value in values.items()]


def _to_value(value: Value) -> dict[str, object]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": value}


def _new_span_id() -> str:
    return os.urandom(8).hex()
