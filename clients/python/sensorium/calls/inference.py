"""Calls with tensors: ModelInfer and ModelStreamInfer. The protocol's stubs are imported late everywhere: they and those of
another client of the protocol do not go into one process.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sensorium.calls.plan import Plan, Request, Rpc
from sensorium.calls.stream import Settled, unreadable
from sensorium.errors import Internal, SensoriumError
from sensorium.results import Model
from sensorium.tensor import Inference, Tensor, TensorLike, read_tensor

_SERVICE = "/inference.GRPCInferenceService"


def infer(
    model: str, inputs: Mapping[str, TensorLike], outputs: Sequence[str] | None, *, version: str
) -> Plan[Inference]:
    """See `Client.infer`."""
    from sensorium.oip.v2 import inference_pb2 as pb

    rpc = Rpc(f"{_SERVICE}/ModelInfer", pb.ModelInferRequest, pb.ModelInferResponse)
    request = make_request(model, inputs, outputs, version=version)
    return Plan(rpc, [Request(request)], lambda replies: parse_reply(replies[0]))


def stream_rpc() -> Rpc:
    """The rpc of `Client.stream_infer`."""
    from sensorium.oip.v2 import inference_pb2 as pb

    return Rpc(f"{_SERVICE}/ModelStreamInfer", pb.ModelInferRequest, pb.ModelStreamInferResponse)


def message_maker(
    model: str, outputs: Sequence[str] | None, *, version: str, timeout_s: float
) -> Callable[[Mapping[str, TensorLike]], Any]:
    """Makes a message of an input of `Client.stream_infer`, or its result if it cannot be sent."""

    def make(inputs: Mapping[str, TensorLike]) -> Any:
        try:
            return make_request(model, inputs, outputs, version=version, timeout_s=timeout_s)
        except ValueError as error:
            return Settled(Inference(error=unreadable(error)))

    return make


def make_request(
    model: str,
    inputs: Mapping[str, TensorLike],
    outputs: Sequence[str] | None,
    *,
    version: str = "",
    timeout_s: float | None = None,
) -> Any:
    """A request message. timeout_s: how long this message of a stream may take; None says nothing.

    Raises TypeError or ValueError for what is no tensor, and names it.
    """
    from sensorium.oip.v2 import inference_pb2 as pb

    if isinstance(outputs, str):
        raise TypeError("outputs: expected a list of names, got one text")
    if not isinstance(inputs, Mapping):
        raise TypeError(f"inputs: expected arrays by name, got {type(inputs).__name__}")
    for field, text in (
        ("model", model),
        ("version", version),
        *(("inputs: names", name) for name in inputs),
    ):
        if not isinstance(text, str):
            raise TypeError(f"{field}: expected a str, got {type(text).__name__}")
    request = pb.ModelInferRequest(model_name=model, model_version=version)
    for name, value in inputs.items():
        try:
            tensor = read_tensor(value)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"inputs[{name!r}]: {error}") from error
        request.inputs.add(name=name, datatype=tensor.datatype, shape=tensor.shape)
        request.raw_input_contents.append(tensor.content)
    for name in outputs or ():
        request.outputs.add(name=name)
    if timeout_s is not None:
        request.parameters["timeout"].int64_param = max(1, round(timeout_s * 1e6))
    return request


def parse_reply(reply: Any) -> Inference:
    """What a ModelInferResponse says. Raises Internal if it does not fit together."""
    if len(reply.raw_output_contents) != len(reply.outputs):
        expected, got = len(reply.outputs), len(reply.raw_output_contents)
        raise Internal(
            f"raw_output_contents: expected {expected}, one per output, got {got}", code="INTERNAL"
        )
    try:
        tensors = {
            output.name: Tensor(output.datatype, tuple(output.shape), content)
            for output, content in zip(reply.outputs, reply.raw_output_contents, strict=True)
        }
    except ValueError as error:
        raise Internal(f"outputs: {error}", code="INTERNAL") from error
    return Inference(tensors, Model(reply.model_name, reply.model_version))


def parse_stream_reply(reply: Any) -> Inference:
    """What a ModelStreamInferResponse says; its errors have a text and no code of their own."""
    if reply.error_message:
        answered = reply.infer_response
        model = Model(answered.model_name, answered.model_version)
        return Inference(model=model, error=SensoriumError(reply.error_message))
    return parse_reply(reply.infer_response)
