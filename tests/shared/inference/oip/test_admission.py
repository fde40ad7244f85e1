"""Admission of tensors: calls and messages of streams pass the same door."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from sensorium.oip.v2 import inference_pb2 as pb

from shared.rpc.caller import PRINCIPAL_HEADER
from tests.shared.inference.graphs import slow, write_model
from tests.shared.inference.oip.served import TIMEOUT_S, Oip, line, served, tensor
from tests.support.serving import get_details, get_status
from tests.support.waiting import within

ALICE = ((PRINCIPAL_HEADER, "alice"),)
# One run uses up such a credit, and it does not come back in the test's time.
ONE_RUN = {"principal": {"compute_s_per_s": 1e-9, "burst_s": 1e-6}}
# Turns of the slow graph's loop that take some milliseconds.
TURNS = 20_000


async def until_refused(oip: Oip, callers: int) -> grpc.aio.AioRpcError:
    """Callers of the model `slow` that call again and again, until one of them is refused."""
    x = np.array([TURNS])
    message = pb.ModelInferRequest(
        model_name="slow", inputs=[tensor("x", x, "INT64")], raw_input_contents=[x.tobytes()]
    )

    async def keep_calling() -> None:
        while True:
            await oip.stub.ModelInfer(message, timeout=TIMEOUT_S)

    tasks = [asyncio.create_task(keep_calling()) for _ in range(callers)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        error = done.pop().exception()
        assert isinstance(error, grpc.aio.AioRpcError)
        return error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_queue_that_is_too_long_is_refused_before_anything_is_read(
    tmp_path: Path, front: str
) -> None:
    write_model(tmp_path, "slow", slow())
    rpc = {"admission": {"min_in_flight": 4, "max_queue_wait_s": 0.005}}
    async with served(tmp_path, front, rpc=rpc) as oip:
        error = await within(until_refused(oip, 32))
        # Another model is not affected.
        await within(oip.infer(**line()))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    details = get_details(get_status(error))
    assert details["ErrorInfo"].reason == "OVERLOADED"
    assert details["QuotaFailure"].violations[0].subject == "calls of model slow in flight"
    assert details["RetryInfo"].retry_delay.ToMilliseconds() > 0


async def test_a_call_is_charged_with_what_it_took(tmp_path: Path, front: str) -> None:
    async with served(tmp_path, front, rpc={"admission": ONE_RUN}) as oip:
        request = pb.ModelInferRequest(**line())
        await within(oip.stub.ModelInfer(request, timeout=TIMEOUT_S, metadata=ALICE))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await within(oip.stub.ModelInfer(request, timeout=TIMEOUT_S, metadata=ALICE))
        await within(oip.infer(**line()))
    assert "principal alice" in str(refused.value.details())


async def test_a_message_of_a_stream_is_refused_and_the_stream_goes_on(tmp_path: Path, front: str) -> None:
    async with served(tmp_path, front, rpc={"admission": ONE_RUN}) as oip:
        call: Any = oip.stub.ModelStreamInfer(timeout=TIMEOUT_S, metadata=ALICE)
        replies = []
        for name in ("first", "second", "third"):
            await within(call.write(pb.ModelInferRequest(id=name, **line())))
            replies.append(await within(call.read()))
        await within(call.done_writing())
    assert not replies[0].error_message
    for reply in replies[1:]:
        assert "seconds of model runs of principal alice" in reply.error_message
        assert reply.infer_response.parameters["status"].string_param == "RESOURCE_EXHAUSTED"
