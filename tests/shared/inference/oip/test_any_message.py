"""No message ends in an error of ours: each is answered or refused with what is wrong with it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sensorium.oip.v2 import inference_pb2 as pb

from shared.errors import ClientError
from shared.inference.datatypes import CONTENTS_FIELDS, NUMPY_TYPES, encode_contents, encode_raw
from shared.inference.oip.answering import Answering
from shared.inference.oip.message import InferRequest, read_message
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from shared.rpc.deadline import Deadline, set_deadline
from tests.shared.inference.graphs import identity, linear, two_of_each, write_model
from tests.support.signing import UNSIGNED

LIMIT_S = 10.0
TYPES = [*NUMPY_TYPES, "fp32", "TENSOR", ""]
EXTREMES = [-(2**63), -1, 0, 1, 2, 16, 2**31, 2**62, 2**63 - 1]

Ask = Callable[[InferRequest], str]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Answers one message; says how it ended: `answered`, or the name of the status."""
    folder = tmp_path_factory.mktemp("models")
    for datatype in NUMPY_TYPES:
        write_model(folder, f"same-{datatype}", identity(datatype))
    write_model(folder, "line", linear())
    write_model(folder, "alone", linear(max_batch_size=0))
    write_model(folder, "pair", two_of_each())
    with asyncio.Runner() as runner:

        async def load() -> Repository:
            repository = Repository(
                folder, "test", InferenceSettings(signature=UNSIGNED, intra_op_threads=1), {}
            )
            await asyncio.wait_for(repository.load_all(), 60)
            return repository

        repository = runner.run(load())
        answering = Answering(repository)

        async def answer(message: InferRequest) -> str:
            deadline = Deadline.after(LIMIT_S)
            set_deadline(deadline)
            try:
                reply = await asyncio.wait_for(answering.answer(message, deadline), 2 * LIMIT_S)
            except ClientError as error:
                return error.code.name
            assert pb.ModelInferResponse.FromString(reply.SerializeToString()) == reply
            return "answered"

        yield lambda message: runner.run(answer(message))
        runner.run(asyncio.wait_for(repository.close(), 60))


numbers = st.one_of(st.sampled_from(EXTREMES), st.integers(-(2**63), 2**63 - 1))
parameters = st.builds(
    lambda choice: pb.InferParameter(**dict([choice])),
    st.one_of(
        st.tuples(st.just("bool_param"), st.booleans()),
        st.tuples(st.just("int64_param"), numbers),
        st.tuples(st.just("uint64_param"), st.integers(0, 2**64 - 1)),
        st.tuples(st.just("double_param"), st.floats()),
        st.tuples(st.just("string_param"), st.text(max_size=4)),
    ),
)
KEYS = [
    "timeout",
    "priority",
    "sequence_id",
    "sequence_start",
    "classification",
    "binary_data",
    "binary_data_output",
    "binary_data_size",
    "shared_memory_region",
    "triton_enable_empty_final_response",
    "other",
]
contents = st.builds(
    pb.InferTensorContents,
    bool_contents=st.lists(st.booleans(), max_size=3),
    int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
    int64_contents=st.lists(numbers, max_size=3),
    uint_contents=st.lists(st.integers(0, 2**32 - 1), max_size=3),
    uint64_contents=st.lists(st.integers(0, 2**64 - 1), max_size=3),
    fp32_contents=st.lists(st.floats(width=32), max_size=3),
    fp64_contents=st.lists(st.floats(), max_size=3),
    bytes_contents=st.lists(st.binary(max_size=5), max_size=3),
)


@st.composite
def shapes(draw: st.DrawFn) -> list[int]:
    return draw(st.one_of(st.just([1, 16]), st.lists(st.sampled_from(EXTREMES), max_size=4)))


@st.composite
def right(draw: st.DrawFn) -> pb.ModelInferRequest:
    """A request with nothing wrong but the values of its elements, which any bytes may be."""
    model = draw(st.sampled_from(["line", "alone", "pair", *(f"same-{name}" for name in NUMPY_TYPES)]))
    datatype = model.removeprefix("same-") if model.startswith("same-") else "FP32"
    shape = [1, 16] if model in ("line", "alone") else [draw(st.integers(1, 3)), draw(st.integers(0, 3))]
    request = pb.ModelInferRequest(model_name=model, id=draw(st.text(max_size=3)))
    typed = datatype in CONTENTS_FIELDS and draw(st.booleans())
    for name in ["a", "b"] if model == "pair" else ["x"]:
        tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
        count = math.prod(shape)
        if datatype == "BYTES":
            elements = draw(st.lists(st.text(max_size=4), min_size=count, max_size=count))
            array: Any = np.array(elements, object).reshape(shape)
        else:
            size = count * NUMPY_TYPES[datatype].itemsize
            raw = draw(st.binary(min_size=size, max_size=size))
            array = np.frombuffer(raw, NUMPY_TYPES[datatype]).reshape(shape)
        if typed:
            encode_contents(datatype, array, tensor.contents)
        else:
            request.raw_input_contents.append(encode_raw(datatype, array))
    outputs = ["sum", "difference"] if model == "pair" else ["y"]
    for name in draw(st.lists(st.sampled_from(outputs), unique=True)):
        request.outputs.add(name=name)
    return request


def damage(draw: st.DrawFn, request: pb.ModelInferRequest) -> None:
    """One thing goes wrong, or at least unusual."""
    part = draw(st.sampled_from(["call", "input", "output", "raw", "elements", "names", "more"]))
    tensor = draw(st.sampled_from(list(request.inputs))) if request.inputs else request.inputs.add()
    output = (
        draw(st.sampled_from(list(request.outputs))) if request.outputs else request.outputs.add(name="y")
    )
    if part in ("call", "input", "output"):
        where = {"call": request, "input": tensor, "output": output}[part]
        where.parameters[draw(st.sampled_from(KEYS))].CopyFrom(draw(parameters))
    elif part == "raw":
        contents_of = request.raw_input_contents
        wrong = draw(st.binary(max_size=40))
        if contents_of and draw(st.booleans()):
            contents_of[draw(st.integers(0, len(contents_of) - 1))] = wrong
        else:
            contents_of.append(wrong)
    elif part == "elements":
        tensor.contents.MergeFrom(draw(contents))
    elif part == "names":
        tensor.name = draw(st.sampled_from(["x", "a", ""]))
        output.name = draw(st.sampled_from(["y", "sum", "z"]))
        request.model_name = draw(st.sampled_from([request.model_name] * 4 + ["none", "pair", ""]))
        request.model_version = draw(st.sampled_from(["", "", "1", "x"]))
    else:
        tensor.datatype = draw(st.sampled_from([tensor.datatype, *TYPES]))
        tensor.shape[:] = draw(shapes())


@st.composite
def requests(draw: st.DrawFn) -> pb.ModelInferRequest:
    request = draw(right())
    for _ in range(draw(st.integers(0, 3))):
        damage(draw, request)
    return request


def one_input(model: str, datatype: str, shape: list[int], raw: bytes) -> pb.ModelInferRequest:
    tensor: Any = pb.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=shape)
    return pb.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[raw])


@settings(max_examples=1500, deadline=None)
@example(one_input("same-FP32", "FP32", [0, 2**62], b""))
@example(one_input("same-FP32", "FP32", [2**62, 0], b""))
@example(one_input("same-BYTES", "BYTES", [0, 2**62], b""))
@example(one_input("same-BYTES", "BYTES", [1, 1], b"\xff\xff\xff\xff"))
@example(one_input("same-BYTES", "BYTES", [1, 1], b"\x02\x00\x00\x00\xff\xfe"))
@example(one_input("same-BF16", "BF16", [1, 2], b"\x80\x3f\xc0\x7f"))
@given(requests())
def test_every_request_is_answered_or_refused(ask: Ask, request: pb.ModelInferRequest) -> None:
    ask(read_message(request.SerializeToString()))


@settings(max_examples=500, deadline=None)
@given(requests(), st.data())
def test_a_damaged_request_is_answered_or_refused(
    ask: Ask, request: pb.ModelInferRequest, data: st.DataObject
) -> None:
    payload = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = read_message(bytes(payload))
    except DecodeError:
        return  # refused before it comes here
    ask(message)


@settings(max_examples=300, deadline=None)
@given(right())
def test_a_right_request_is_answered(ask: Ask, request: pb.ModelInferRequest) -> None:
    assert ask(read_message(request.SerializeToString())) == "answered"


def test_the_examples_are_not_all_refused(ask: Ask) -> None:
    assert ask(one_input("same-FP32", "FP32", [1, 1], bytes(4))) == "answered"
    assert ask(one_input("same-BF16", "BF16", [1, 2], b"\x80\x3f\xc0\x7f")) == "answered"
    assert ask(one_input("same-FP32", "FP32", [0, 2**62], b"")) == "INVALID_ARGUMENT"
