"""The short way of reading a request never disagrees with the long one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sensorium.oip.v2 import inference_pb2 as pb

from shared.errors import ClientError
from shared.inference.oip.request import RequestReader
from tests.shared.inference.graphs import identity, linear, signature_of, two_of_each

READERS = [
    RequestReader(signature_of(draft), "graph")
    for draft in (linear(), two_of_each(), identity("INT16"), identity("BYTES"))
]
NAMES = st.sampled_from(["x", "a", "b", "y", "sum", "difference", ""])
PARAMETERS = st.dictionaries(
    st.sampled_from(["timeout", "sequence_id", "classification", "binary_data"]),
    st.builds(pb.InferParameter, int64_param=st.integers(0, 1)),
    max_size=1,
)
# Mostly nothing, so that most requests are nearly right.
RARELY = st.one_of(st.just({}), st.just({}), st.just({}), PARAMETERS)


@st.composite
def requests(draw: st.DrawFn) -> pb.ModelInferRequest:
    inputs, raw = [], []
    for name in draw(st.lists(NAMES, max_size=3)):
        shape = draw(st.one_of(st.just([1, 16]), st.lists(st.integers(-1, 3), max_size=3)))
        tensor: Any = pb.ModelInferRequest.InferInputTensor(
            name=name,
            datatype=draw(st.sampled_from(["FP32", "FP32", "INT16", "BYTES"])),
            shape=shape,
            parameters=draw(RARELY),
        )
        if draw(st.integers(0, 9)) == 0:
            tensor.contents.fp32_contents.append(1)
        inputs.append(tensor)
        size = max(math.prod(shape), 0) * (2 if tensor.datatype == "INT16" else 4)
        raw.append(bytes(size + draw(st.sampled_from([0, 0, 0, 1]))))
    return pb.ModelInferRequest(
        inputs=inputs,
        outputs=[
            pb.ModelInferRequest.InferRequestedOutputTensor(name=name, parameters=draw(RARELY))
            for name in draw(st.lists(NAMES, max_size=2))
        ],
        parameters=draw(RARELY),
        raw_input_contents=raw[: draw(st.sampled_from([0, 3, 3, 3]))],
    )


@settings(max_examples=1000, deadline=None)
@given(st.sampled_from(READERS), requests())
def test_what_is_read_the_short_way_is_what_the_long_way_reads(
    reader: RequestReader, request: pb.ModelInferRequest
) -> None:
    short = reader.read_plain(request, request.raw_input_contents)
    try:
        long = reader.read(request, request.raw_input_contents)
    except ClientError:
        assert short is None
        return
    if short is not None:
        assert (short.outputs, short.raw) == (long.outputs, long.raw)
        assert short.inputs.keys() == long.inputs.keys()
        for name, array in long.inputs.items():
            np.testing.assert_array_equal(short.inputs[name], array)
            assert short.inputs[name].dtype == array.dtype


def test_the_usual_request_is_read_the_short_way() -> None:
    array = np.ones((2, 16), np.float32)
    request = pb.ModelInferRequest(
        inputs=[pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[2, 16])],
        outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="y")],
        raw_input_contents=[array.tobytes()],
    )
    asked = READERS[0].read_plain(request, request.raw_input_contents)
    assert asked is not None
    np.testing.assert_array_equal(asked.inputs["x"], array)
    assert (asked.outputs, asked.raw) == (("y",), True)
