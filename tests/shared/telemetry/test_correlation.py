"""Request ids and W3C trace context."""

from __future__ import annotations

import pytest

from shared.telemetry.correlation import (
    Correlation,
    TraceParent,
    accept_request_id,
    new_request_id,
    parse_traceparent,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("header", "sampled"),
    [(f"00-{TRACE}-{SPAN}-01", True), (f"00-{TRACE}-{SPAN}-00", False), (f"cc-{TRACE}-{SPAN}-03-more", True)],
)
def test_traceparents_that_are_read(header: str, sampled: bool) -> None:
    assert parse_traceparent(header) == TraceParent(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_traceparents_that_count_as_absent(header: str) -> None:
    assert parse_traceparent(header) is None
    assert Correlation("r", header).trace is None


def test_a_child_stays_in_the_trace() -> None:
    parent = TraceParent(TRACE, SPAN, sampled=True)
    child = parent.make_child()
    assert (child.trace_id, child.sampled) == (TRACE, True)
    assert child.span_id != SPAN
    assert parse_traceparent(child.to_header()) == child


def test_request_ids_are_new_every_time() -> None:
    assert len({new_request_id() for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "sent", ["a", "x" * 128, "5b9c7f7c-8c1b-4a51-9d1c-7f7c8c1b4a51", "Root=1-67:a/b+c@d_e."]
)
def test_harmless_request_ids_are_kept(sent: str) -> None:
    assert accept_request_id(sent) == sent


@pytest.mark.parametrize("sent", ["", "x" * 129, 'a"b', "a\nb", "a b", "ü", "a\n"])
def test_other_request_ids_are_replaced(sent: str) -> None:
    assert accept_request_id(sent) not in ("", sent)
