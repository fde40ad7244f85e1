"""Spans: who is recorded, what is sent, and what happens when nobody takes it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from pydantic import ValidationError

from shared.rpc.report import Report
from shared.telemetry import tracing
from shared.telemetry.correlation import Correlation
from shared.telemetry.tracing import Span, TraceMetrics, TraceSettings
from tests.support.trace_store import TraceStore, recording, trace_store

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
WANTED = Correlation("r-1", f"00-{TRACE}-{CALLER}-01")
PATIENCE_S = 30.0


@pytest.fixture
def store() -> Iterator[TraceStore]:
    with recording("stub", "one") as opened:
        yield opened


def count(outcome: str) -> float:
    (family,) = TraceMetrics().collect()
    return next(sample.value for sample in family.samples if sample.labels["outcome"] == outcome)


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def record(code: str = "OK", parts: tuple[Span, ...] = ()) -> None:
    now_s = time.monotonic()
    tracing.record("a.v1.Service", "Say", code, WANTED, now_s - 0.5, now_s, parts)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://tempo:4318",
        "http://tempo_1.monitoring.svc.cluster.local.:4318",
        "http://127.0.0.1:1/",
        "http://[::1]:4318",
    ],
)
def test_endpoints_that_are_taken(endpoint: str) -> None:
    assert TraceSettings(endpoint=endpoint).endpoint == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        "tempo:4318",
        "https://tempo:4318",
        "http://tempo",
        "http://tempo:4318/v1/traces",
        "http://a@b:1",
        "http://a:b",
        "http://tempo:0",
        # Names for which Python's resolver raises what is no OSError.
        "http://tempo..observability:4318",
        f"http://{'a' * 64}:4318",
        "http://te mpo:4318",
        "http://.:4318",
    ],
)
def test_endpoints_that_are_refused(endpoint: str) -> None:
    with pytest.raises(ValidationError, match="expected http://host:port"):
        TraceSettings(endpoint=endpoint)


def test_nobody_is_recorded_without_a_store() -> None:
    tracing.start(TraceSettings(), "stub", "one")
    assert not tracing.wants(WANTED)
    record()


@pytest.mark.parametrize("traceparent", ["", f"00-{TRACE}-{CALLER}-00", "nonsense"])
def test_only_who_wants_it_is_recorded(store: TraceStore, traceparent: str) -> None:
    assert not tracing.wants(Correlation("r-1", traceparent))
    assert tracing.wants(WANTED)


def test_a_call_and_its_parts(store: TraceStore) -> None:
    now_s = time.monotonic()
    record(
        parts=(Span("batch", now_s - 0.4, now_s - 0.1, {"rows": 3, "share": 0.5, "hit": True, "model": "m"}),)
    )
    call, part = store.wait_for(lambda spans: len(spans) == 2)
    assert (call.service, call.name, call.trace, call.parent, call.kind) == (
        "stub", "a.v1.Service/Say", TRACE, CALLER, 2,
    )  # fmt: skip
    assert call.attributes["sensorium.request_id"] == "r-1"
    assert call.code == 0
    assert (part.name, part.trace, part.parent) == ("batch", TRACE, call.id)
    assert part.attributes == {"rows": 3, "share": 0.5, "hit": True, "model": "m"}
    assert part.ended_ns - part.begun_ns == pytest.approx(0.3e9, abs=1e6)
    assert abs(call.ended_ns / 1e9 - time.time()) < PATIENCE_S


@pytest.mark.parametrize(("code", "status"), [("INTERNAL", 2), ("UNAVAILABLE", 2), ("INVALID_ARGUMENT", 0)])
def test_only_our_faults_are_errors(store: TraceStore, code: str, status: int) -> None:
    record(code)
    (call,) = store.wait_for(lambda spans: len(spans) == 1)
    assert call.code == status


def test_what_nobody_takes_is_dropped_and_counted(
    store: TraceStore, capsys: pytest.CaptureFixture[str]
) -> None:
    store.failing = True
    dropped, sent = count("dropped"), count("sent")
    record()
    until(lambda: count("dropped") == dropped + 1)
    store.failing = False
    record()
    store.wait_for(lambda spans: len(spans) == 1)
    until(lambda: count("sent") == sent + 1)


def test_what_waits_at_the_end_is_sent(store: TraceStore) -> None:
    for _ in range(10):
        record()
    tracing.stop()
    assert len(store.spans) == 10
    assert not tracing.wants(WANTED)


def test_no_store_holds_up_the_end() -> None:
    # Nobody listens there any more.
    with trace_store() as gone:
        pass
    tracing.start(TraceSettings(endpoint=gone.endpoint), "stub", "one")
    before = count("dropped")
    for _ in range(10_000):
        record()
    began_s = time.monotonic()
    tracing.stop()
    assert time.monotonic() - began_s < 5.0
    assert count("dropped") > before


def test_an_answer_without_an_end_holds_up_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            caller, _ = listener.accept()
            with caller, contextlib.suppress(OSError):
                caller.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while True:
                    caller.sendall(b"x" * 65_536)

        thread = threading.Thread(target=answer)
        thread.start()
        tracing.start(TraceSettings(endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}"), "stub", "one")
        try:
            sent = count("sent")
            record()
            until(lambda: count("sent") == sent + 1)
        finally:
            tracing.stop()
            thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_report_keeps_its_parts_only_if_it_is_asked_to() -> None:
    plain, traced = Report(), Report(traced=True)
    for report in (plain, traced):
        report.add_wait(0.001, 0.002)
        report.add(0.01, 0.002, 0.03, 4, "nlp/minilm", "1")
        report.add(0.0, 0.0, 0.0, 0, "nlp/minilm", "1")
    assert plain.parts is None
    assert plain.models == traced.models
    assert traced.parts is not None
    assert [part.name for part in traced.parts] == ["wait", "work", "queue", "batch", "queue"]
    queue, batch = traced.parts[2:4]
    assert queue.ended_s == batch.begun_s
    assert queue.ended_s - queue.begun_s == pytest.approx(0.01)
    assert batch.ended_s - batch.begun_s == pytest.approx(0.032)
    assert batch.attributes == {
        "sensorium.model": "nlp/minilm@1", "sensorium.batch_size": 4, "sensorium.compute_s": 0.03,
    }  # fmt: skip
