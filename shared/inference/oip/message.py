"""A ModelInferRequest on the wire, read without copying its tensors.

Here: the one field that is large, `raw_input_contents`, is cut out of the message's bytes; protobuf reads the rest. Not
here: what the fields mean (`request.py`). With 600 kB of pixels this saves two copies of three, a sixth of what the
event loop does for the call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from sensorium.oip.v2 import inference_pb2 as pb
from sensorium.oip.v2 import inference_pb2_grpc as pb_grpc

from shared.inference.oip.layout import Layout, Layouts, Span

# Below this a copy of a tensor costs less than a view of it.
_SMALL_BYTES = 32 * 1024
# Wire types: https://protobuf.dev/programming-guides/encoding/#structure
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_RAW_TAG = pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER << 3 | _LENGTH
# Fields of a request that come more than once; a message with more is read as a whole.
_MAX_FIELDS = 1000


@dataclass(slots=True)
class InferMessage:
    """A request whose raw contents lie beside it, as parts of the received bytes."""

    request: pb.ModelInferRequest  # without raw_input_contents; not to be changed, for it may be shared
    raw: Sequence[bytes | memoryview]
    layout: Layout | None = None


InferRequest: TypeAlias = pb.ModelInferRequest | InferMessage


def get_request(message: InferRequest) -> pb.ModelInferRequest:
    """What a message says beside its raw contents, which may lie in it too. Not to be changed."""
    return message.request if isinstance(message, InferMessage) else message


_layouts = Layouts()


def read_message(payload: bytes) -> InferRequest:
    """Decode a request; a large one without copying its tensors, one of a layout that is known without parsing it.

    Used on one thread.

    Raises:
        google.protobuf.message.DecodeError: it is malformed.
    """
    small = len(payload) < _SMALL_BYTES
    source = payload if small else memoryview(payload)
    layout = _layouts.find(payload)
    if layout is not None:
        return InferMessage(layout.request, [source[start:end] for start, end in layout.spans], layout)
    worthwhile = _layouts.is_worthwhile(payload)
    parts = _split(payload) if worthwhile or not small else None
    if parts is None:
        return pb.ModelInferRequest.FromString(payload)
    rest, spans = parts
    request = pb.ModelInferRequest.FromString(rest)
    if worthwhile and spans:
        layout = _layouts.learn(payload, request, spans)
    return InferMessage(request, [source[start:end] for start, end in spans], layout)


def find_layout(payload: bytes) -> Layout | None:
    """The layout of a request, if it is known."""
    return _layouts.find(payload)


def add_to_server(servicer: pb_grpc.GRPCInferenceServiceServicer, server: Any) -> None:
    """As the generated `add_GRPCInferenceServiceServicer_to_server`, with its requests read by `read_message`; and with the
    shortcut of ModelInfer, if the servicer has one.
    """
    registrar: Any = _Registrar(server)
    pb_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, registrar)
    if (shortcut := getattr(servicer, "shortcut", None)) is not None:
        server.add_shortcut("inference.GRPCInferenceService", "ModelInfer", shortcut)


class _Registrar:
    """Stands where generated code expects the server and exchanges a decoder."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.add_generic_rpc_handlers: Callable[..., None] = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Called by generated code with the methods of the service."""
        infer, stream = method_handlers["ModelInfer"], method_handlers["ModelStreamInfer"]
        handlers = {
            **method_handlers,
            "ModelInfer": grpc.unary_unary_rpc_method_handler(
                infer.unary_unary,
                request_deserializer=read_message,
                response_serializer=_write_reply,
            ),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(
                stream.stream_stream,
                request_deserializer=read_message,
                response_serializer=stream.response_serializer,
            ),
        }
        self._server.add_registered_method_handlers(service_name, handlers)


def _write_reply(reply: pb.ModelInferResponse | bytes) -> bytes:
    return reply if isinstance(reply, bytes) else reply.SerializeToString()


def _split(payload: bytes) -> tuple[bytes, list[Span]] | None:
    """The bytes of all other fields, and where each raw content lies; None if it is not plainly well-formed."""
    view = memoryview(payload)
    rest: list[memoryview] = []
    raw: list[Span] = []
    position, end = 0, len(payload)
    for _ in range(_MAX_FIELDS):
        if position == end:
            return b"".join(rest), raw
        start = position
        tag, position = _read_varint(payload, position)
        kind = tag & 7
        if kind == _VARINT:
            _, position = _read_varint(payload, position)
        elif kind == _LENGTH:
            length, position = _read_varint(payload, position)
            if tag == _RAW_TAG and 0 <= position <= end - length:
                raw.append((position, position + length))
                position += length
                continue
            position += length
        elif kind == _FIXED64:
            position += 8
        elif kind == _FIXED32:
            position += 4
        else:
            return None
        if not start < position <= end:
            return None
        rest.append(view[start:position])
    return None


def _read_varint(payload: bytes, position: int) -> tuple[int, int]:
    """A number and the position behind it, or a position behind the end where it is cut off or too long."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(payload):
            break
        byte = payload[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    return 0, len(payload) + 1
