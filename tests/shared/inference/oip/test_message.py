"""Reading a request's bytes by hand gives what protobuf gives, for right and for broken ones."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from sensorium.oip.v2 import inference_pb2 as pb

from shared.inference.oip.message import InferMessage, read_message

# Large enough to be read by hand.
FILLER = b"\x00" * 40_000


def join(message: InferMessage) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest()
    request.CopyFrom(message.request)
    request.raw_input_contents.extend(bytes(view) for view in message.raw)
    return request


def check(payload: bytes) -> None:
    """Both ways give the same message, or both refuse."""
    try:
        wanted = pb.ModelInferRequest.FromString(payload)
    except DecodeError:
        wanted = None
    try:
        read = read_message(payload)
    except DecodeError:
        read = None
    if isinstance(read, InferMessage):
        read = join(read)
    assert read == wanted


@st.composite
def requests(draw: st.DrawFn) -> pb.ModelInferRequest:
    contents = draw(st.lists(st.binary(max_size=300), max_size=4))
    contents.insert(draw(st.integers(0, len(contents))), FILLER)
    return pb.ModelInferRequest(
        model_name=draw(st.text(max_size=5)),
        id=draw(st.text(max_size=200)),
        parameters=draw(
            st.dictionaries(
                st.text(max_size=3), st.builds(pb.InferParameter, int64_param=st.just(7)), max_size=2
            )
        ),
        inputs=[
            pb.ModelInferRequest.InferInputTensor(name=name, datatype="FP32", shape=[2**62, -1])
            for name in draw(st.lists(st.text(max_size=5), max_size=3))
        ],
        raw_input_contents=contents,
    )


@settings(deadline=None)
@given(requests())
def test_a_request_is_read_without_a_copy_and_is_the_same(request: pb.ModelInferRequest) -> None:
    payload = request.SerializeToString()
    message = read_message(payload)
    assert isinstance(message, InferMessage)
    assert not message.request.raw_input_contents
    assert all(view.obj is payload for view in message.raw)
    assert join(message) == request


@settings(max_examples=300, deadline=None)
@given(requests(), st.data())
def test_a_damaged_message_is_read_as_protobuf_reads_it(
    request: pb.ModelInferRequest, data: st.DataObject
) -> None:
    payload = bytearray(request.SerializeToString())
    where = data.draw(st.integers(0, min(len(payload) - 1, 400)))
    payload[where] = data.draw(st.integers(0, 255))
    check(bytes(payload))
    check(bytes(payload[: data.draw(st.integers(0, len(payload)))]))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_as_protobuf_reads_them(beginning: bytes) -> None:
    check(beginning + FILLER)
    check(beginning + b"\x3a\xc0\xb8\x02" + FILLER)


@settings(max_examples=300, deadline=None)
@given(requests(), st.data())
def test_what_is_known_already_is_read_as_protobuf_reads_it(
    request: pb.ModelInferRequest, data: st.DataObject
) -> None:
    payload = bytearray(request.SerializeToString())
    check(bytes(payload))
    check(bytes(payload))
    # Of the same length, with other bytes in or between the tensors.
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    check(bytes(payload))


def test_the_second_of_a_kind_is_not_parsed() -> None:
    first, second = (
        pb.ModelInferRequest(model_name="second", raw_input_contents=[content, b"ab"]).SerializeToString()
        for content in (b"1234", b"5678")
    )
    one, two = read_message(first), read_message(second)
    assert isinstance(one, InferMessage)
    assert isinstance(two, InferMessage)
    assert two.request is one.request
    assert (list(one.raw), list(two.raw)) == ([b"1234", b"ab"], [b"5678", b"ab"])


def test_small_requests_that_are_never_alike_are_left_to_protobuf() -> None:
    messages = [
        read_message(
            pb.ModelInferRequest(
                model_name="never", id=f"{at:04}", raw_input_contents=[b"1234"]
            ).SerializeToString()
        )
        for at in range(100)
    ]
    assert isinstance(messages[0], InferMessage)
    assert isinstance(messages[-1], pb.ModelInferRequest)
    assert messages[-1].id == "0099"
