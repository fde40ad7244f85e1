"""Requests of a known layout get the same bytes as those that are read field by field."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sensorium.oip.v2 import inference_pb2 as pb

from tests.shared.inference.graphs import linear, write_model
from tests.shared.inference.oip.served import TIMEOUT_S, Oip, get_violations, line, served, tensor, wanted
from tests.support.waiting import within


async def infer_twice(oip: Oip, request: pb.ModelInferRequest) -> tuple[bytes, bytes]:
    """Replies on the wire: to a request that is new, and to it again."""
    call = oip.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    payload = request.SerializeToString()
    return (
        await within(call(payload, timeout=TIMEOUT_S)),
        await within(call(payload, timeout=TIMEOUT_S)),
    )


@pytest.mark.parametrize("rows", [1, 3, 8])
async def test_the_second_reply_is_the_first(tmp_path: Path, front: str, rows: int) -> None:
    async with served(tmp_path, front) as oip:
        first, second = await infer_twice(oip, pb.ModelInferRequest(id=f"r{rows}", **line(rows)))
    assert second == first
    reply = pb.ModelInferResponse.FromString(second)
    assert (reply.model_name, reply.model_version, reply.id) == ("line", "1", f"r{rows}")
    assert list(reply.outputs[0].shape) == [rows, 4]


async def test_two_outputs_in_the_order_they_are_asked_for(tmp_path: Path) -> None:
    a, b = np.array([[1.0, 2.0]], np.float32), np.array([[10.0, 20.0]], np.float32)
    async with served(tmp_path) as oip:
        request = pb.ModelInferRequest(
            model_name="pair.sums",
            inputs=[tensor("b", b), tensor("a", a)],
            outputs=[wanted("difference"), wanted("sum")],
            raw_input_contents=[b.tobytes(), a.tobytes()],
        )
        first, second = await infer_twice(oip, request)
    assert second == first
    reply = pb.ModelInferResponse.FromString(second)
    assert [output.name for output in reply.outputs] == ["difference", "sum"]
    assert np.frombuffer(reply.raw_output_contents[0], np.float32).tolist() == [-9, -18]


async def test_another_version_answers_the_same_request(tmp_path: Path) -> None:
    async with served(tmp_path) as oip:
        request = pb.ModelInferRequest(**line())
        await infer_twice(oip, request)
        write_model(tmp_path, "line", linear(), version="2")
        await within(oip.repository.load_model("line"))
        _, second = await infer_twice(oip, request)
    assert pb.ModelInferResponse.FromString(second).model_version == "2"


async def test_a_wrong_request_stays_wrong(tmp_path: Path) -> None:
    async with served(tmp_path) as oip:
        for _ in range(3):
            assert await get_violations(oip, **line(raw_input_contents=[b"1234"]))
