"""Requests of a known layout, answered without a message in between: arrays out of the received bytes, bytes out of arrays.

Here: what is worked out once for a layout and a graph, and used for every request of its kind. Not here: which layouts are
known (`layout.py`); anything out of the ordinary, right or wrong (`request.py`, `reply.py`): what is not plain raw numbers
in both directions has no plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sensorium.oip.v2 import inference_pb2 as pb

from shared.inference.batching.shape import Shape
from shared.inference.batching.waiting import Answer
from shared.inference.datatypes import Array, encode_raw
from shared.inference.oip.request import Asked

__all__ = ["Plan"]

_RAW_TAG = pb.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER << 3 | 2
# Shapes of outputs that one layout has been answered with; a graph may give any number of them.
_MAX_HEADS = 16


class Plan:
    """How requests of one layout are answered by one graph."""

    __slots__ = (
        "_heads",
        "_id",
        "_inputs",
        "_types",
        "_version",
        "model_name",
        "model_version",
        "outputs",
        "owner",
        "shape",
    )

    def __init__(
        self,
        owner: object,
        request: pb.ModelInferRequest,
        asked: Asked,
        types: Mapping[str, str],
        version: str,
    ) -> None:
        """`asked` is what a request of the layout was found to be; `owner` stands for the graph."""
        self.owner = owner
        self.outputs = asked.outputs
        self._inputs: list[tuple[str, np.dtype[Any], tuple[int, ...]]] = [
            (name, array.dtype, array.shape) for name, array in asked.inputs.items()
        ]
        self.model_name, self.model_version, self._id = request.model_name, request.model_version, request.id
        # What such a request is to the queue, once one of them was answered.
        self.shape: Shape | None = None
        self._types = types
        self._version = version
        # By the outputs' shapes: what a reply is but for their elements, and the tag and length before each of them.
        self._heads: dict[tuple[tuple[int, ...], ...], list[bytes]] = {}

    def read(self, raw: Sequence[bytes | memoryview]) -> dict[str, Array]:
        """The inputs of a request; the layout says that they have the right number of bytes."""
        return {
            name: np.frombuffer(content, dtype).reshape(shape)
            for (name, dtype, shape), content in zip(self._inputs, raw, strict=True)
        }

    def write(self, answer: Answer) -> bytes:
        """The reply, as it goes onto the wire."""
        outputs = answer.outputs
        shapes = tuple([array.shape for array in outputs.values()])
        heads = self._heads.get(shapes)
        if heads is None:
            heads = self._make_heads(outputs)
            if len(self._heads) < _MAX_HEADS:
                self._heads[shapes] = heads
        if len(heads) == 1:
            ((name, array),) = outputs.items()
            return heads[0] + encode_raw(self._types[name], array)
        parts: list[bytes] = []
        for head, (name, array) in zip(heads, outputs.items(), strict=True):
            parts += (head, encode_raw(self._types[name], array))
        return b"".join(parts)

    def _make_heads(self, outputs: Mapping[str, Array]) -> list[bytes]:
        reply = pb.ModelInferResponse(model_name=self.model_name, model_version=self._version, id=self._id)
        for name, array in outputs.items():
            reply.outputs.add(name=name, datatype=self._types[name], shape=array.shape)
        # Raw contents are the last field, and serializers write fields in their order.
        heads = [bytes((_RAW_TAG,)) + _encode_varint(array.nbytes) for array in outputs.values()]
        return [reply.SerializeToString() + heads[0], *heads[1:]]


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
