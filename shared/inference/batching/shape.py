"""What an item is to its graph: how many rows, how long, what it costs, and with whom it may share a run.

Here: functions of an item's tensors and of what the manifest says of the graph. Not here: who waits with whom
(`queue.py`), how tensors are put together (`batch.py`).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TypeAlias

from shared.errors import InvalidArgument
from shared.inference.batching.batch import count_rows
from shared.inference.datatypes import Array
from shared.inference.manifest import Graph

__all__ = ["MAX_WASTE", "Shape", "ShapeRule"]

# Most of a batch that may be filling: a quarter.
MAX_WASTE = 0.25
# The longest of one bucket over its shortest, so that no batch out of one bucket wastes more than a quarter.
_LOG_STEP = math.log(1 / (1 - MAX_WASTE))


# One item as the queue sees it: rows; kind (equal kinds may share a run); bucket (those that are filled up, by length);
# length along the axis that is filled up, 1 where none is; cost alone, at least 1. A bare tuple: one is made per item.
Shape: TypeAlias = tuple[int, Hashable, int, int, float]


class ShapeRule:
    """How one graph's items are measured."""

    def __init__(self, graph: Graph, *, name: str, max_batch_size: int) -> None:
        """`name` is the graph's public name, for messages; `max_batch_size` 0 means that items run alone."""
        self._name = name
        self._max_rows = max_batch_size
        names = [tensor.name for tensor in graph.inputs]
        cost, pad = graph.batching.cost, graph.batching.pad
        self.pad = pad if max_batch_size > 0 else None
        self._padded: tuple[int, ...] = ()
        if self.pad is not None:
            self._padded = tuple(names.index(key) for key in self.pad.inputs)
        if cost is not None:
            self._cost_input, self._cost_axes = names.index(cost.input), cost.axes
        elif self.pad is not None:
            self._cost_input, self._cost_axes = self._padded[0], (0, self.pad.axis)
        else:
            self._cost_input, self._cost_axes = 0, ()

    def measure(
        self, inputs: Mapping[str, Array], arrays: tuple[Array, ...], wanted: tuple[str, ...]
    ) -> Shape:
        """`arrays` are the inputs in the graph's order, `wanted` the outputs that are asked for.

        Raises:
            InvalidArgument: more rows than fit, unequal rows, or unequal lengths along the axis that is filled up.
        """
        if not self._max_rows:
            return 1, None, 0, 1, self._count_cost(arrays, 1)
        rows = count_rows(inputs, self._max_rows, self._name)
        if self.pad is None:
            kind = (wanted, *[(array.dtype.char, array.shape[1:]) for array in arrays])
            return rows, kind, 0, 1, self._count_cost(arrays, rows) if self._cost_axes else float(rows)
        axis = self.pad.axis
        length = self._measure_length(arrays, axis, inputs)
        padded = self._padded
        kind = (
            wanted,
            *[
                (array.dtype.char, (*array.shape[1:axis], *array.shape[axis + 1 :]))
                if index in padded
                else (array.dtype.char, array.shape[1:])
                for index, array in enumerate(arrays)
            ],
        )
        # Nothing at all is filled up to no length: it has a bucket for itself.
        bucket = int(math.log(length) / _LOG_STEP) if length else -1
        return rows, kind, bucket, max(length, 1), self._count_cost(arrays, rows)

    def count_cost(self, inputs: Mapping[str, Array], names: tuple[str, ...]) -> float:
        """Cost of a run of these inputs as they are; `names` are the graph's, in order."""
        arrays = tuple(inputs[name] for name in names)
        return self._count_cost(arrays, arrays[0].shape[0] if arrays[0].shape else 1)

    def _count_cost(self, arrays: tuple[Array, ...], rows: int) -> float:
        if not self._cost_axes:
            return float(rows) if self._max_rows else 1.0
        shape, cost = arrays[self._cost_input].shape, 1
        for axis in self._cost_axes:
            if axis < len(shape):
                cost *= shape[axis]
        return float(max(cost, 1))

    def _measure_length(self, arrays: tuple[Array, ...], axis: int, inputs: Mapping[str, Array]) -> int:
        length = -1
        for index in self._padded:
            shape = arrays[index].shape
            if axis >= len(shape) or length not in (-1, shape[axis]):
                raise self._explain_length(axis, inputs)
            length = shape[axis]
        return length

    def _explain_length(self, axis: int, inputs: Mapping[str, Array]) -> InvalidArgument:
        """What is wrong with the first input that is not as long as those before it."""
        assert self.pad is not None
        first = next(iter(self.pad.inputs))
        for index, (key, array) in enumerate(inputs.items()):
            where, got = f"inputs[{index}].shape", f"shape {list(array.shape)}"
            if key not in self.pad.inputs:
                continue
            if axis >= array.ndim:
                return InvalidArgument(where, expected=f"an axis {axis} in {key!r}", got=got)
            if inputs[first].ndim > axis and array.shape[axis] != inputs[first].shape[axis]:
                length = inputs[first].shape[axis]
                return InvalidArgument(
                    where, expected=f"{length} along axis {axis} of {key!r} as in {first!r}", got=got
                )
        raise AssertionError(f"the lengths of {self._name}'s inputs are right")
