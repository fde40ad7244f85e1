"""What takes spans, as a trace store does: OTLP over HTTP, in both its encodings, by the specification's field numbers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from shared.telemetry import tracing
from shared.telemetry.tracing import TraceSettings

_FIELD = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "trace_store"
# Of opentelemetry/proto/trace/v1/trace.proto and its neighbours what a test asks for: number, type or message, many.
_MESSAGES: dict[str, dict[str, tuple[int, Any, bool]]] = {
    "Request": {"resource_spans": (1, "ResourceSpans", True)},
    "ResourceSpans": {"resource": (1, "Resource", False), "scope_spans": (2, "ScopeSpans", True)},
    "Resource": {"attributes": (1, "KeyValue", True)},
    "ScopeSpans": {"spans": (2, "Span", True)},
    "Span": {
        "trace_id": (1, _FIELD.TYPE_BYTES, False),
        "span_id": (2, _FIELD.TYPE_BYTES, False),
        "parent_span_id": (4, _FIELD.TYPE_BYTES, False),
        "name": (5, _FIELD.TYPE_STRING, False),
        "kind": (6, _FIELD.TYPE_INT32, False),
        "start": (7, _FIELD.TYPE_FIXED64, False),
        "end": (8, _FIELD.TYPE_FIXED64, False),
        "attributes": (9, "KeyValue", True),
        "status": (15, "Status", False),
    },
    "Status": {"message": (2, _FIELD.TYPE_STRING, False), "code": (3, _FIELD.TYPE_INT32, False)},
    "KeyValue": {"key": (1, _FIELD.TYPE_STRING, False), "value": (2, "AnyValue", False)},
    "AnyValue": {
        "string": (1, _FIELD.TYPE_STRING, False),
        "bool": (2, _FIELD.TYPE_BOOL, False),
        "int": (3, _FIELD.TYPE_INT64, False),
        "double": (4, _FIELD.TYPE_DOUBLE, False),
    },
}


@dataclass(frozen=True)
class Span:
    """One span. ids in hex; begun_ns, ended_ns: Unix time; code: 2 = error."""

    service: str
    trace: str
    id: str
    parent: str
    name: str
    kind: int
    begun_ns: int
    ended_ns: int
    code: int
    attributes: dict[str, Any]


class TraceStore:
    """Spans in the order in which they came. failing: it answers 503."""

    def __init__(self) -> None:
        self.failing = False
        self.spans: list[Span] = []
        self._came = threading.Condition()
        store = self

        class Receiver(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = self.headers["content-length"]
                body = self._read_chunks() if length is None else self.rfile.read(int(length))
                status = store._take(self.path, self.headers["content-type"], body)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def _read_chunks(self) -> bytes:
                whole = b""
                while size := int(self.rfile.readline(), 16):
                    whole += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return whole

            def log_message(self, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def wait_for(self, found: Callable[[list[Span]], bool], timeout_s: float = 30.0) -> list[Span]:
        """All spans, once `found` says that they are enough."""
        with self._came:
            assert self._came.wait_for(lambda: found(self.spans), timeout_s), [
                (span.service, span.name) for span in self.spans
            ]
            return list(self.spans)

    def close(self) -> None:
        """Takes no more."""
        self._server.shutdown()
        self._server.server_close()

    def _take(self, path: str, kind: str, body: bytes) -> int:
        if path != "/v1/traces":
            return 404
        if self.failing:
            return 503
        spans = list(_read_json(body) if kind == "application/json" else _read_binary(body))
        with self._came:
            self.spans += spans
            self._came.notify_all()
        return 200


@contextmanager
def trace_store() -> Iterator[TraceStore]:
    """A store for the length of a `with` block."""
    store = TraceStore()
    try:
        yield store
    finally:
        store.close()


@contextmanager
def recording(service: str, instance: str) -> Iterator[TraceStore]:
    """A store that this process sends its own spans to."""
    with trace_store() as store:
        tracing.start(TraceSettings(endpoint=store.endpoint), service, instance)
        try:
            yield store
        finally:
            tracing.stop()


def _read_json(body: bytes) -> Iterator[Span]:
    for resource in json.loads(body)["resourceSpans"]:
        told = _attributes(resource["resource"]["attributes"])
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                yield Span(
                    told["service.name"],
                    bytes.fromhex(span["traceId"]).hex(),
                    bytes.fromhex(span["spanId"]).hex(),
                    bytes.fromhex(span.get("parentSpanId", "")).hex(),
                    span["name"],
                    span["kind"],
                    int(span["startTimeUnixNano"]),
                    int(span["endTimeUnixNano"]),
                    span.get("status", {}).get("code", 0),
                    _attributes(span["attributes"]),
                )


def _attributes(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    read = {"intValue": int, "stringValue": str, "doubleValue": float, "boolValue": bool}
    found = {}
    for pair in pairs:
        ((kind, value),) = pair["value"].items()
        found[pair["key"]] = read[kind](value)
    return found


def _read_binary(body: bytes) -> Iterator[Span]:
    for resource in _REQUEST.FromString(body).resource_spans:
        told = _pairs(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    told["service.name"],
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.name,
                    span.kind,
                    span.start,
                    span.end,
                    span.status.code,
                    _pairs(span.attributes),
                )


def _pairs(attributes: Any) -> dict[str, Any]:
    return {pair.key: next((value for _, value in pair.value.ListFields()), None) for pair in attributes}


def _make_request() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="trace_store.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, many) in fields.items():
            added = message.field.add(name=field, number=number)
            added.label = _FIELD.LABEL_REPEATED if many else _FIELD.LABEL_OPTIONAL
            if isinstance(kind, str):
                added.type, added.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Request"))


_REQUEST = _make_request()
