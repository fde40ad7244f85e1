"""One trace of a call: from its client through the gateway to its slot in a batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from sensorium.nlp.v1 import nlp_service_pb2, nlp_service_pb2_grpc
from sensorium.oip.v2 import inference_pb2, inference_pb2_grpc

from tests.mesh.running import RunningMesh, make_state, running_mesh
from tests.support.trace_store import Span, TraceStore, trace_store

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT = "00f067aa0ba902b7"
TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def store() -> Iterator[TraceStore]:
    with trace_store() as opened:
        yield opened


@pytest.fixture(scope="module")
def traced(
    tmp_path_factory: pytest.TempPathFactory, models_dir: Path, store: TraceStore
) -> Iterator[RunningMesh]:
    """Language only; it records what its callers want recorded, and nothing by chance."""
    state = make_state(tmp_path_factory.mktemp("mesh") / "state", models_dir)
    environ = {"SENSORIUM_TRACE_ENDPOINT": store.endpoint, "SENSORIUM_TRACE_SHARE": "0"}
    with running_mesh(state, "--replicas", "vision=0,speech=0", environ=environ) as running:
        yield running


def test_a_trace_leads_to_the_batch(traced: RunningMesh, store: TraceStore) -> None:
    metadata = [*traced.metadata, ("traceparent", f"00-{TRACE}-{CLIENT}-01")]
    with grpc.insecure_channel(traced.address) as channel:
        stub = nlp_service_pb2_grpc.NlpServiceStub(channel)
        request = nlp_service_pb2.EmbedTextRequest(texts=["The cat sleeps.", "It rains."])
        _, call = stub.EmbedText.with_call(request, metadata=metadata, timeout=TIMEOUT_S)
    trailers = dict(call.trailing_metadata())

    def of(spans: list[Span]) -> list[Span]:
        return [span for span in spans if span.trace == TRACE]

    spans = of(store.wait_for(lambda all_: {"gateway", "nlp"} <= {span.service for span in of(all_)}))
    (entry,) = (span for span in spans if span.parent == CLIENT)
    (attempt,) = (span for span in spans if span.parent == entry.id)
    (served,) = (span for span in spans if span.parent == attempt.id)
    parts = [span for span in spans if span.parent == served.id]
    assert [span.service for span in (entry, attempt, served)] == ["gateway", "gateway", "nlp"]
    assert served.name == "sensorium.nlp.v1.NlpService/EmbedText"
    assert len(spans) == 3 + len(parts)
    batches = [part for part in parts if part.name == "batch"]
    assert len(batches) == 2, "one for each text"
    for batch in batches:
        assert batch.attributes["sensorium.model"] == trailers["x-sensorium-model-version"]
        assert 1 <= batch.attributes["sensorium.batch_size"] <= 2
        assert 0 < batch.attributes["sensorium.compute_s"] <= (batch.ended_ns - batch.begun_ns) / 1e9 + 1e-6
    assert sum(part.name == "queue" for part in parts) == 2
    for part in parts:
        # To the microsecond: of one clock, by two roads.
        assert served.begun_ns - 1000 <= part.begun_ns <= part.ended_ns <= served.ended_ns + 1000, part


def test_tensors_that_have_a_short_way_are_recorded_too(traced: RunningMesh, store: TraceStore) -> None:
    trace = TRACE[:-1] + "a"
    request = inference_pb2.ModelInferRequest(model_name="language")
    for name, kind, value in (
        ("ids", "INT64", b"\1" + bytes(7)),
        ("counts", "FP32", np.float32(1).tobytes()),
    ):
        request.inputs.add(name=name, datatype=kind, shape=[1, 1])
        request.raw_input_contents.append(value)
    with grpc.insecure_channel(traced.address) as channel:
        stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        # The second time it is known to be quick.
        stub.ModelInfer(request, metadata=traced.metadata, timeout=TIMEOUT_S)
        metadata = [*traced.metadata, ("traceparent", f"00-{trace}-{CLIENT}-01")]
        stub.ModelInfer(request, metadata=metadata, timeout=TIMEOUT_S)
    found = store.wait_for(lambda all_: any(s.trace == trace and s.service == "nlp" for s in all_))
    names = [span.name for span in found if span.trace == trace and span.service == "nlp"]
    assert sorted(names) == ["batch", "inference.GRPCInferenceService/ModelInfer", "queue"]
