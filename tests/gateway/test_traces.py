"""One trace of a call: the gateway's spans by the real Envoy, and the replica's below them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.gateway.support import toy
from tests.gateway.support.running import Gateway, say
from tests.support.trace_store import Span, TraceStore, recording

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"


@pytest.fixture(scope="module")
def store() -> Iterator[TraceStore]:
    # The replicas of these tests live in this process.
    with recording("toy", "here") as opened:
        yield opened


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, store: TraceStore) -> Iterator[Gateway]:
    """A gateway that records what its callers want recorded, and nothing by chance."""
    environ = {"SENSORIUM_TRACE_ENDPOINT": store.endpoint, "SENSORIUM_TRACE_SHARE": "0"}
    with Gateway(tmp_path_factory.mktemp("gw"), environ=environ).running() as made:
        yield made


def of(spans: list[Span], trace: str) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = {}
    for span in spans:
        if span.trace == trace:
            found.setdefault(span.service, []).append(span)
    return found


async def test_a_call_is_one_trace_from_its_caller_to_the_replica(traced: Gateway, store: TraceStore) -> None:
    async with traced.replica():
        metadata = (*traced.metadata(), ("traceparent", f"00-{TRACE}-{CALLER}-01"))
        await say(traced, metadata=metadata, text="hello")
    spans = store.wait_for(
        lambda all_: len(of(all_, TRACE).get("gateway", ())) >= 2 and "toy" in of(all_, TRACE)
    )
    found = of(spans, TRACE)
    assert set(found) == {"gateway", "toy"}
    (entry,) = (span for span in found["gateway"] if span.parent == CALLER)
    (attempt,) = (span for span in found["gateway"] if span is not entry)
    assert attempt.parent == entry.id
    (call,) = found["toy"]
    assert call.parent == attempt.id
    assert call.name == f"{toy.SERVICE}/Say"
    assert call.attributes["sensorium.code"] == "OK"
    assert entry.begun_ns <= call.begun_ns <= call.ended_ns
    # The same id as in the logs.
    assert call.attributes["sensorium.request_id"] == entry.attributes["guid:x-request-id"]


async def test_no_token_stands_in_a_span(traced: Gateway, store: TraceStore) -> None:
    trace = TRACE[:-1] + "d"
    token = traced.token()
    metadata = (("authorization", f"Bearer {token}"), ("traceparent", f"00-{trace}-{CALLER}-01"))
    async with traced.replica():
        await say(traced, metadata=metadata, text="hello")
    spans = store.wait_for(lambda all_: len(of(all_, trace).get("gateway", ())) >= 2)
    assert not [span for span in spans if token in repr(span)]


async def test_calls_that_nobody_wants_recorded_are_not(traced: Gateway, store: TraceStore) -> None:
    trace, unwanted = TRACE[:-1] + "e", TRACE[:-1] + "f"
    async with traced.replica():
        await say(traced, text="hello")
        await say(
            traced, metadata=(*traced.metadata(), ("traceparent", f"00-{unwanted}-{CALLER}-00")), text="a"
        )
        # What is recorded comes after these.
        await say(traced, metadata=(*traced.metadata(), ("traceparent", f"00-{trace}-{CALLER}-01")), text="b")
    spans = store.wait_for(lambda all_: "toy" in of(all_, trace) and "gateway" in of(all_, trace))
    assert not of(spans, unwanted)
    assert {span.trace[:-1] for span in spans} == {TRACE[:-1]}


async def test_what_ends_in_the_control_plane_is_recorded_too(traced: Gateway, store: TraceStore) -> None:
    trace = TRACE[:-1] + "a"
    headers = {**traced.headers(), "traceparent": f"00-{trace}-{CALLER}-01"}
    assert (await traced.http("GET", "/v1/replicas", headers=headers)).status_code == 200
    spans = store.wait_for(lambda all_: "gateway-control" in of(all_, trace))
    (answer,) = of(spans, trace)["gateway-control"]
    assert answer.name == "sensorium.mesh.v1.MeshService/ListReplicas"


def test_without_a_store_nothing_is_rendered_of_it(gateway: Gateway) -> None:
    text = (gateway.run / "bootstrap.json").read_text()
    assert "OpenTelemetry" not in text
    assert "trace_store" not in text


def test_a_bad_endpoint_is_one_line(traced: Gateway, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = Gateway(
        tmp_path_factory.mktemp("gw"), environ={"SENSORIUM_TRACE_ENDPOINT": "https://tempo:4318/v1/traces"}
    )
    other.prepare()
    assert "SENSORIUM_TRACE_ENDPOINT: expected http://host:port" in other.refuse()
