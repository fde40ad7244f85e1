"""Rows go in and come out in order, whatever the arrays look like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from shared.inference.batching.batch import Joiner, Splitter, UnevenOutputError
from shared.inference.datatypes import Array
from shared.inference.manifest import Pad, PadOutput


def displace(array: Array) -> Array:
    """The same array one byte off its boundary, as a view of a message is."""
    moved = np.frombuffer(b"!" + array.tobytes(), np.uint8)[1:].view(array.dtype).reshape(array.shape)
    assert array.size == 0 or array.itemsize == 1 or not moved.flags.aligned
    return moved


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    npst.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3),
    st.sampled_from([np.float32, np.int64, np.float16, np.uint8, np.bool_]),
    st.booleans(),
)
def test_what_was_joined_is_split_again(
    rows: list[int], shape: tuple[int, ...], dtype: Any, displaced: bool
) -> None:
    joiner = Joiner(["x"])
    # Twice, so that the second batch lies where the first one did.
    for offset in (0, 1):
        items = [np.full((count, *shape), index + offset).astype(dtype) for index, count in enumerate(rows)]
        sent = [(displace(item) if displaced else item,) for item in items]
        joined = joiner.join(sent)["x"]
        assert joined.flags.aligned
        np.testing.assert_array_equal(joined, np.concatenate(items))
        answers = Splitter().split(["y"], [joined.copy()], rows)
        for item, answer in zip(items, answers, strict=True):
            np.testing.assert_array_equal(answer["y"], item)
            assert not answer["y"].flags.writeable


def test_an_item_alone_is_passed_on_as_it_is() -> None:
    x, scalar = np.ones((2, 2), np.float32), np.array(3.0)
    joined = Joiner(["x", "scalar"]).join([(x, scalar)])
    assert joined["x"] is x
    assert joined["scalar"] is scalar


def test_a_scalar_off_its_boundary_is_moved() -> None:
    joined = Joiner(["x"]).join([(displace(np.array(2.5)),)])
    assert joined["x"].shape == ()
    assert joined["x"].flags.aligned
    assert joined["x"] == 2.5


def test_texts_are_joined() -> None:
    texts = [(np.array([["a"], ["b"]], dtype=object),), (np.array([["c"]], dtype=object),)]
    assert Joiner(["x"]).join(texts)["x"].tolist() == [["a"], ["b"], ["c"]]


def test_results_without_the_rows_are_refused() -> None:
    for result in (np.zeros((1, 4)), np.array(1.0)):
        with pytest.raises(UnevenOutputError, match="'y'"):
            Splitter().split(["y"], [result], [1, 1])


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), min_size=2, max_size=6),
    st.sampled_from([1, 2]),
    st.sampled_from([np.float32, np.int64, np.bool_]),
    st.sampled_from([1, 4]),
)
def test_rows_are_filled_up_and_cut_again(
    shapes: list[tuple[int, int]], axis: int, dtype: Any, every: int
) -> None:
    pad = Pad(axis=axis, inputs={"x": 7}, outputs={"y": PadOutput(axis=axis, every=every)})
    joiner, splitter = Joiner(["x", "z"], pad), Splitter(pad)
    rng = np.random.default_rng(5)
    items = []
    for rows, length in shapes:
        shape = (rows, length, 2) if axis == 1 else (rows, 2, length)
        items.append((rng.integers(0, 5, shape).astype(dtype), np.full((rows, 1), length)))
    # Twice, so that the second batch lies where the first one did.
    for _ in range(2):
        joined = joiner.join(items)
        longest = max(length for _, length in shapes)
        assert joined["x"].shape[axis] == longest
        assert joined["z"].tolist() == [[length] for rows, length in shapes for _ in range(rows)]
        whole = np.moveaxis(joined["x"], axis, 1)
        start = 0
        for (rows, length), (x, _) in zip(shapes, items, strict=True):
            np.testing.assert_array_equal(whole[start : start + rows, :length], np.moveaxis(x, axis, 1))
            assert (whole[start : start + rows, length:] == np.array(7).astype(dtype)).all()
            start += rows
        result = np.moveaxis(whole[:, ::every], 1, axis)
        rows = [count for count, _ in shapes]
        answers = splitter.split(["y"], [result.copy()], rows, [length for _, length in shapes])
        for (x, _), answer in zip(items, answers, strict=True):
            wanted = np.moveaxis(np.moveaxis(x, axis, 1)[:, ::every], 1, axis)
            np.testing.assert_array_equal(answer["y"], wanted)


def test_texts_are_filled_up() -> None:
    joiner = Joiner(["x"], Pad(axis=1, inputs={"x": 0}))
    texts = [(np.array([["a", "b"]], dtype=object),), (np.array([["c"]], dtype=object),)]
    assert joiner.join(texts)["x"].tolist() == [["a", "b"], ["c", ""]]


def test_results_of_another_length_are_refused() -> None:
    splitter = Splitter(Pad(axis=1, inputs={"x": 0}, outputs={"y": PadOutput(axis=1)}))
    with pytest.raises(UnevenOutputError, match="'y'"):
        splitter.split(["y"], [np.zeros((2, 3))], [1, 1], [2, 4])
