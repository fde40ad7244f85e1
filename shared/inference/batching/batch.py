"""Putting a batch together and taking it apart: rows in, rows out.

Rows of unlike lengths are filled up to the longest, and what lies behind an item's own length is cut off again.
Here: arrays only. Not here: who is in a batch (`waiting.py`), when it runs (`batcher.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shared.errors import InvalidArgument
from shared.inference.datatypes import Array
from shared.inference.manifest import Pad, PadOutput

# A copy up to this size keeps the interpreter's lock. numpy lets go of it, and then the session waits for the event loop
# to give it back, three times as long as copying 600 kB takes.
_HELD_BYTES = 1 << 20


class UnevenOutputError(Exception):
    """A batch's output has another number of rows than went in: the graph has no batch axis after all."""


def count_rows(inputs: Mapping[str, Array], max_rows: int, name: str) -> int:
    """Rows that all inputs of one item have in common; `name` is the graph's, for messages.

    Raises:
        InvalidArgument: an input has no rows, more than `max_rows`, or other than those before it.
    """
    rows = -1
    for array in inputs.values():
        shape = array.shape
        if not shape or not 0 < shape[0] <= max_rows or rows not in (-1, shape[0]):
            raise _explain_rows(inputs, max_rows, name)
        rows = shape[0]
    return rows


def _explain_rows(inputs: Mapping[str, Array], max_rows: int, name: str) -> InvalidArgument:
    """What is wrong with the first input whose rows are not right."""
    before, rows = "", 0
    for index, (key, array) in enumerate(inputs.items()):
        where, got = f"inputs[{index}].shape", f"shape {list(array.shape)}"
        if not array.shape or array.shape[0] == 0:
            return InvalidArgument(where, expected=f"at least 1 row in {key!r}", got=got)
        if array.shape[0] > max_rows:
            return InvalidArgument(
                where,
                expected=f"at most {max_rows} rows ({name}'s max_batch_size) in {key!r}",
                got=f"{array.shape[0]} rows",
                fix=f"send them in calls of at most {max_rows}",
            )
        if before and array.shape[0] != rows:
            return InvalidArgument(where, expected=f"{rows} rows in {key!r} as in {before!r}", got=got)
        before, rows = key, array.shape[0]
    raise AssertionError(f"the rows of {name}'s inputs are right")


class Joiner:
    """Makes the inputs of a run out of those of its items, in memory that the next run uses again.

    Fresh memory for every batch of images costs more than the copy: the kernel clears each page first. One run at a
    time: what `join` gives is overwritten by the next `join`.
    """

    def __init__(self, names: Sequence[str], pad: Pad | None = None) -> None:
        """`names` are the graph's inputs, in the order in which items bring them; `pad` is what the graph says of it."""
        self._names = tuple(names)
        self._axis = 0 if pad is None else pad.axis
        self._filling: Mapping[str, float] = {} if pad is None else pad.inputs
        # Grows to the largest batch that was seen.
        self._memory = {name: np.empty(0, np.uint8) for name in names}

    def join(self, items: Sequence[tuple[Array, ...]]) -> dict[str, Array]:
        """Every input by name, with the rows of all items; an item alone is passed on as it is."""
        if len(items) > 1:
            columns = zip(self._names, zip(*items, strict=True), strict=True)
            return {
                name: self._fill_up(name, arrays, self._filling[name])
                if name in self._filling
                else self._concatenate(name, arrays)
                for name, arrays in columns
            }
        # Views of a received message lie anywhere; ONNX Runtime wants each element on its own boundary.
        return {
            name: array if array.flags.aligned else self._copy(name, array)
            for name, array in zip(self._names, items[0], strict=True)
        }

    def _concatenate(self, name: str, arrays: tuple[Array, ...]) -> Array:
        first = arrays[0]
        if first.dtype.hasobject:
            return np.concatenate(arrays)
        shape = (sum(array.shape[0] for array in arrays), *first.shape[1:])
        return np.concatenate(arrays, out=self._reserve(name, shape, first.dtype))

    def _fill_up(self, name: str, arrays: tuple[Array, ...], filling: float) -> Array:
        """All rows, each as long as the longest along the axis, with `filling` behind the shorter ones."""
        axis, first = self._axis, arrays[0]
        lengths = [array.shape[axis] for array in arrays]
        longest = max(lengths)
        if min(lengths) == longest:
            return self._concatenate(name, arrays)
        rows = sum([array.shape[0] for array in arrays])
        shape = (rows, *first.shape[1:axis], longest, *first.shape[axis + 1 :])
        if first.dtype.hasobject:
            # Texts: nothing behind a text is the empty one.
            whole: Array = np.full(shape, "", first.dtype)
        else:
            whole = self._reserve(name, shape, first.dtype)
        # With the axis right behind the rows, whatever lies behind both stays as it is.
        lines = whole.swapaxes(1, axis) if axis > 1 else whole
        start = 0
        for array, length in zip(arrays, lengths, strict=True):
            end = start + array.shape[0]
            lines[start:end, :length] = array.swapaxes(1, axis) if axis > 1 else array
            if length < longest and not first.dtype.hasobject:
                lines[start:end, length:] = filling
            start = end
        return whole

    def _copy(self, name: str, array: Array) -> Array:
        copied = self._reserve(name, array.shape, array.dtype)
        if array.nbytes <= _HELD_BYTES and array.flags.c_contiguous:
            copied.reshape(-1).view(np.uint8).data[:] = array.reshape(-1).view(np.uint8).data
        else:
            np.copyto(copied, array)
        return copied

    def _reserve(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array of this shape in the input's memory."""
        n_bytes = math.prod(shape) * dtype.itemsize
        if self._memory[name].nbytes < n_bytes:
            self._memory[name] = np.empty(n_bytes, np.uint8)
        return self._memory[name][:n_bytes].view(dtype).reshape(shape)


class Splitter:
    """Gives each item of a run its rows of the results."""

    def __init__(self, pad: Pad | None = None) -> None:
        """`pad` is what the graph says of outputs that are as long as their inputs."""
        self._axes: Mapping[str, PadOutput] = {} if pad is None else pad.outputs

    def split(
        self,
        names: Sequence[str],
        results: Sequence[Array],
        rows: Sequence[int],
        lengths: Sequence[int] = (),
    ) -> list[dict[str, Array]]:
        """Each item's rows of every result, as read-only views; an item alone gets the results as they are.

        `lengths` are the items', where they were filled up to the longest of them: so far their rows reach.

        Raises:
            UnevenOutputError: a result has not as many rows as all items together, or is not as long as the longest.
        """
        for result in results:
            # Batch-mates share this memory, each through his own rows of it: nobody may write there.
            result.flags.writeable = False
        if len(rows) == 1:
            return [dict(zip(names, results, strict=True))]
        total = sum(rows)
        for name, result in zip(names, results, strict=True):
            if not result.shape or result.shape[0] != total:
                raise UnevenOutputError(f"output {name!r} has shape {list(result.shape)} for {total} rows")
        answers = []
        start = 0
        for count in rows:
            end = start + count
            answers.append({name: result[start:end] for name, result in zip(names, results, strict=True)})
            start = end
        if self._axes and lengths:
            self._trim(answers, lengths)
        return answers

    def _trim(self, answers: Sequence[dict[str, Array]], lengths: Sequence[int]) -> None:
        """Cut the filling off again."""
        longest = max(lengths)
        for name in answers[0].keys() & self._axes.keys():
            axis, every = self._axes[name].axis, self._axes[name].every
            whole = answers[0][name].shape
            if len(whole) <= axis or whole[axis] != -(-longest // every):
                raise UnevenOutputError(
                    f"output {name!r} has shape {list(whole)} for inputs of length {longest}, every {every}"
                )
            for answer, length in zip(answers, lengths, strict=True):
                if length < longest:
                    answer[name] = answer[name][(slice(None),) * axis + (slice(-(-length // every)),)]
