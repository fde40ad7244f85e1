"""Calls that are answered without a task end as all others do."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from sensorium.oip.v2 import inference_pb2 as pb

from shared.telemetry import logging, request_log
from tests.shared.inference.graphs import picky, write_model
from tests.shared.inference.oip.served import TIMEOUT_S, Oip, line, served, tensor
from tests.support.serving import get_details, get_status
from tests.support.waiting import within


def picks(index: int) -> pb.ModelInferRequest:
    """A request that is right for 0 to 3, and fails the run for others."""
    x = np.array([index], np.int64)
    return pb.ModelInferRequest(
        model_name="picks", inputs=[tensor("x", x, "INT64")], raw_input_contents=[x.tobytes()]
    )


@asynccontextmanager
async def familiar(folder: Path, **settings: Any) -> AsyncIterator[Oip]:
    """A server that has answered requests of `line` and `picks` before, whose graphs run on the event loop."""
    write_model(folder, "picks", picky())
    async with served(folder, "native", **settings) as oip:
        for name in ("line", "picks"):
            oip.repository.graph(name).batcher.express_rows = 8
        for _ in range(2):
            await within(oip.stub.ModelInfer(pb.ModelInferRequest(**line()), timeout=TIMEOUT_S))
            await within(oip.stub.ModelInfer(picks(1), timeout=TIMEOUT_S))
        yield oip


async def test_a_burst_gets_the_answers_of_its_own(tmp_path: Path) -> None:
    async with familiar(tmp_path) as oip:
        calls = [oip.stub.ModelInfer(picks(index % 4), timeout=TIMEOUT_S) for index in range(40)]
        replies = await within(asyncio.gather(*calls))
        trailers = dict(await within(calls[-1].trailing_metadata()))
    values = [np.frombuffer(reply.raw_output_contents[0], np.int64)[0] for reply in replies]
    assert values == [index % 4 * 10 for index in range(40)]
    assert trailers["x-sensorium-model-version"] == "test/picks@1"
    assert float(trailers["x-sensorium-compute"]) > 0
    assert int(trailers["x-sensorium-batch-size"]) >= 1


async def test_of_a_burst_only_the_wrong_one_fails(tmp_path: Path) -> None:
    async with familiar(tmp_path) as oip:
        calls = [oip.stub.ModelInfer(picks(index), timeout=TIMEOUT_S) for index in (0, 1, 99, 3)]
        replies = await within(asyncio.gather(*calls, return_exceptions=True))
    error = replies[2]
    assert isinstance(error, grpc.aio.AioRpcError)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "BadRequest" in get_details(get_status(error))
    values = [np.frombuffer(replies[at].raw_output_contents[0], np.int64)[0] for at in (0, 1, 3)]
    assert values == [0, 10, 30]


@pytest.mark.parametrize(
    ("stamp_s", "code"),
    [(-1.0, grpc.StatusCode.DEADLINE_EXCEEDED), (20.0, grpc.StatusCode.OK)],
)
async def test_the_gateways_deadline_holds(tmp_path: Path, stamp_s: float, code: grpc.StatusCode) -> None:
    async with familiar(tmp_path) as oip:
        metadata = (
            ("x-sensorium-deadline", str(int((time.time() + stamp_s) * 1000))),
            ("x-sensorium-principal", "somebody"),
        )
        call = oip.stub.ModelInfer(picks(1), timeout=TIMEOUT_S, metadata=metadata)
        assert await within(call.code()) is code


async def test_a_refusal_at_the_door_is_told(tmp_path: Path) -> None:
    async with familiar(tmp_path, rpc={"admission": {"max_in_flight": 1}}) as oip:
        calls = [oip.stub.ModelInfer(picks(1), timeout=TIMEOUT_S) for _ in range(30)]
        codes = await within(asyncio.gather(*(call.code() for call in calls)))
        assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
        # Nothing is held by those that were refused.
        assert await within(oip.stub.ModelInfer(picks(1), timeout=TIMEOUT_S).code()) is grpc.StatusCode.OK


async def test_each_call_leaves_its_line(tmp_path: Path) -> None:
    out = io.StringIO()
    try:
        async with familiar(tmp_path) as oip:
            logging.configure("info", stream=out)
            metadata = (("x-request-id", "quick-1"),)
            await within(oip.stub.ModelInfer(picks(1), timeout=TIMEOUT_S, metadata=metadata))
            request_log.flush()
    finally:
        logging.configure("info", stream=sys.__stderr__)
    lines = [json.loads(text) for text in out.getvalue().splitlines() if '"quick-1"' in text]
    assert [(found["method"], found["code"]) for found in lines] == [("ModelInfer", "OK")]


async def test_clients_that_leave_disturb_nobody(tmp_path: Path) -> None:
    async with familiar(tmp_path) as oip:
        for _ in range(20):
            calls = [oip.stub.ModelInfer(picks(at % 4), timeout=TIMEOUT_S) for at in range(8)]
            await asyncio.sleep(0)
            for call in calls[::2]:
                call.cancel()
            replies = await within(asyncio.gather(*calls, return_exceptions=True))
            for at in range(1, 8, 2):
                assert np.frombuffer(replies[at].raw_output_contents[0], np.int64)[0] == at % 4 * 10
