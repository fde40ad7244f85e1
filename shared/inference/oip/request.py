"""From a ModelInferRequest to arrays: every check of it, and what each failed one says.

Here: pure functions of a request and a graph's signature. Not here: the calls (`servicer.py`), parameters
(`parameters.py`), bytes (`datatypes.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sensorium.oip.v2 import inference_pb2 as pb

from shared.errors import MAX_VIOLATIONS, InvalidArgument, InvalidArguments
from shared.inference.datatypes import (
    CONTENTS_FIELDS,
    NUMPY_TYPES,
    Array,
    decode_contents,
    decode_raw,
    describe_raw,
)
from shared.inference.manifest import Graph, Tensor
from shared.inference.oip.parameters import (
    check_of_call,
    check_of_input,
    check_of_output,
    is_haste,
    read_classes,
    read_flag,
    read_priority,
    read_timeout_s,
)
from shared.rpc.caller import Priority

# Of an empty tensor, were it not for its axis of length 0: more than any message holds.
_MAX_ELEMENTS = 2**31


@dataclass(slots=True)
class Asked:
    """A request that was read: inputs in its order, the wanted outputs, and how the reply's elements are to lie."""

    inputs: dict[str, Array]
    outputs: tuple[str, ...]  # none = all
    raw: bool
    timeout_s: float | None = None
    priority: Priority | None = None
    # Of each output that is wanted as classes: how many.
    classes: Mapping[str, int] | None = None


class RequestReader:
    """Reads the requests for one graph. `name` is the model's, for messages."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.output_types = {tensor.name: tensor.dtype for tensor in graph.outputs}
        self._graph = graph
        self._name = name
        self._inputs = {tensor.name: tensor for tensor in graph.inputs}
        # Of each input that is plain numbers: datatype, numpy's, rank, and the axes of fixed length.
        self._plain = {
            tensor.name: (
                tensor.dtype,
                NUMPY_TYPES[tensor.dtype],
                len(tensor.shape),
                [(axis, length) for axis, length in enumerate(tensor.shape) if length >= 0],
            )
            for tensor in graph.inputs
            if tensor.dtype != "BYTES"
        }

    def read_plain(self, request: pb.ModelInferRequest, raw: Sequence[bytes | memoryview]) -> Asked | None:
        """Read a request that is raw numbers and nothing unusual: a tenth of the time of `read`, and no copies.

        None where anything is out of the ordinary, right or wrong: `read` knows.
        """
        if not len(raw) == len(request.inputs) == len(self._inputs):
            return None
        parameters = request.parameters
        if parameters and not is_haste(parameters):
            return None
        inputs: dict[str, Array] = {}
        for index, sent in enumerate(request.inputs):
            name = sent.name
            plain = self._plain.get(name)
            if plain is None or name in inputs or sent.parameters or sent.HasField("contents"):
                return None
            datatype, dtype, rank, fixed = plain
            shape = tuple(sent.shape)
            if sent.datatype != datatype or len(shape) != rank:
                return None
            if any(shape[axis] != length for axis, length in fixed) or any(length < 0 for length in shape):
                return None
            content = raw[index]
            # One without elements may have any axes besides.
            if not content or len(content) != math.prod(shape) * dtype.itemsize:
                return None
            inputs[name] = np.frombuffer(content, dtype).reshape(shape)
        wanted: dict[str, None] = {}
        for asked in request.outputs:
            if asked.name not in self.output_types or asked.name in wanted or asked.parameters:
                return None
            wanted[asked.name] = None
        if parameters:
            return Asked(inputs, tuple(wanted), True, read_timeout_s(parameters), read_priority(parameters))
        return Asked(inputs, tuple(wanted), True)

    def read(self, request: pb.ModelInferRequest, raw: Sequence[bytes | memoryview]) -> Asked:
        """Check a request against the graph's signature and decode its tensors, raw or typed.

        `raw` are its `raw_input_contents`, which may lie beside it.

        Rows are not counted here but by the batcher.

        Raises:
            InvalidArgument, InvalidArguments: naming field, expected, got and the way out.
        """
        wrong: list[InvalidArgument] = []
        parameters = request.parameters
        wrong += check_of_call(parameters)
        outputs, classes, wants_raw = self._read_outputs(request, wrong)
        if raw and len(raw) != len(request.inputs):
            # Inputs in shared memory bring no contents; that they are there is what is wrong.
            for index, sent in enumerate(request.inputs[:MAX_VIOLATIONS]):
                wrong += check_of_input(f"inputs[{index}].parameters", sent.parameters)
            wrong.append(
                InvalidArgument(
                    "raw_input_contents",
                    expected=f"{len(request.inputs)} entries, one for each of `inputs` in its order",
                    got=f"{len(raw)}",
                )
            )
            raise _combine(wrong)
        inputs: dict[str, Array] = {}
        for index, sent in enumerate(request.inputs):
            tensor = self._inputs.get(sent.name)
            where = f"inputs[{index}]"
            if tensor is None or sent.name in inputs:
                known = ", ".join(f'"{known}"' for known in self._inputs)
                got = f'"{sent.name}"' + ("" if tensor is None else " for the second time")
                expected = f"one of {self._name}'s inputs {known}"
                wrong.append(InvalidArgument(f"{where}.name", expected=expected, got=got))
            else:
                found = _check_input(where, sent, tensor)
                if not found:
                    try:
                        inputs[sent.name] = _decode(index, sent, tensor, raw)
                    except InvalidArgument as error:
                        found = [error]
                wrong += found
            # A request may hold a million inputs; the first few mistakes tell enough.
            if len(wrong) >= MAX_VIOLATIONS:
                raise _combine(wrong)
        if not wrong and len(inputs) < len(self._inputs):
            missing = next(tensor for known, tensor in self._inputs.items() if known not in inputs)
            wrong.append(
                InvalidArgument(
                    "inputs",
                    expected=f'a tensor named "{missing.name}" of {_describe(missing)}',
                    got=", ".join(f'"{known}"' for known in inputs) or "none",
                )
            )
        if wrong:
            raise _combine(wrong)
        return Asked(
            inputs,
            outputs,
            bool(raw) if wants_raw is None else wants_raw,
            read_timeout_s(parameters),
            read_priority(parameters),
            classes,
        )

    def _read_outputs(
        self, request: pb.ModelInferRequest, wrong: list[InvalidArgument]
    ) -> tuple[tuple[str, ...], Mapping[str, int] | None, bool | None]:
        """Names of the wanted outputs, how many classes of which, and whether they are wanted raw (None: not said)."""
        wanted: dict[str, int] = {}
        raw = read_flag(request.parameters, "binary_data_output")
        said: list[bool] = []
        for index, asked in enumerate(request.outputs):
            where, datatype = f"outputs[{index}]", self.output_types.get(asked.name)
            if datatype is None or asked.name in wanted:
                again = " for the second time" if asked.name in wanted else ""
                listed = ", ".join(f'"{output}"' for output in self.output_types)
                wrong.append(
                    InvalidArgument(
                        f"{where}.name",
                        expected=f"one of {self._name}'s outputs {listed}",
                        got=f'"{asked.name}"{again}',
                    )
                )
            wrong += check_of_output(f"{where}.parameters", asked.parameters, datatype or "")
            wanted[asked.name] = read_classes(asked.parameters)
            if (binary := read_flag(asked.parameters, "binary_data")) is not None:
                said.append(binary)
            if len(wrong) >= MAX_VIOLATIONS:
                raise _combine(wrong)
        if said:
            # All outputs lie one way.
            raw = any(said)
        classes = {name: count for name, count in wanted.items() if count}
        return tuple(wanted), classes or None, raw


def _combine(wrong: list[InvalidArgument]) -> InvalidArgument | InvalidArguments:
    return wrong[0] if len(wrong) == 1 else InvalidArguments(wrong)


def _check_input(
    where: str, sent: pb.ModelInferRequest.InferInputTensor, tensor: Tensor
) -> list[InvalidArgument]:
    """Parameters, datatype and shape of one tensor."""
    wrong = check_of_input(f"{where}.parameters", sent.parameters)
    if sent.datatype != tensor.dtype:
        wrong.append(
            InvalidArgument(
                f"{where}.datatype", expected=f'{tensor.dtype} for "{tensor.name}"', got=f'"{sent.datatype}"'
            )
        )
    shape = list(sent.shape)
    fits = len(shape) == len(tensor.shape) and all(
        axis >= 0 and wanted in (-1, axis) for axis, wanted in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        axes = ", ".join("any" if axis < 0 else str(axis) for axis in tensor.shape)
        wrong.append(
            InvalidArgument(f"{where}.shape", expected=f'[{axes}] for "{tensor.name}"', got=_list_axes(shape))
        )
    elif 0 in shape and math.prod(max(axis, 1) for axis in shape) > _MAX_ELEMENTS:
        # Its contents say nothing of the other axes, and numpy multiplies them all.
        wrong.append(
            InvalidArgument(
                f"{where}.shape",
                expected=f"axes of at most {_MAX_ELEMENTS} in all beside a 0",
                got=_list_axes(shape),
            )
        )
    return wrong


def _decode(
    index: int, sent: pb.ModelInferRequest.InferInputTensor, tensor: Tensor, raw: Sequence[bytes | memoryview]
) -> Array:
    """The elements of one tensor whose datatype and shape are right."""
    shape = list(sent.shape)
    contents = f"inputs[{index}].contents"
    if raw:
        if sent.contents.ListFields():
            raise InvalidArgument(
                contents,
                expected="none beside raw_input_contents",
                got="elements",
                fix="send either, not both",
            )
        try:
            return decode_raw(tensor.dtype, shape, raw[index])
        except ValueError as error:
            raise InvalidArgument(
                f"raw_input_contents[{index}]",
                expected=f'{describe_raw(tensor.dtype, shape)} for "{tensor.name}"',
                got=str(error),
            ) from error
    try:
        return decode_contents(tensor.dtype, shape, sent.contents)
    except ValueError as error:
        field = CONTENTS_FIELDS.get(tensor.dtype)
        count = describe_raw(tensor.dtype, shape) if field is None else f"{_list_axes(shape)} elements"
        raise InvalidArgument(
            contents,
            expected=f'{count} of "{tensor.name}" in '
            + (field or f"raw_input_contents, for no list carries {tensor.dtype}"),
            got=str(error),
        ) from error


def _describe(tensor: Tensor) -> str:
    axes = ", ".join("any" if axis < 0 else str(axis) for axis in tensor.shape)
    return f"{tensor.dtype} [{axes}]"


def _list_axes(shape: list[int]) -> str:
    shown = ", ".join(str(axis) for axis in shape[:16])
    return f"[{shown}{', …' if len(shape) > 16 else ''}]"
