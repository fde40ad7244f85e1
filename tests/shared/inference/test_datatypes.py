"""Every datatype survives the wire; a claimed size is never believed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sensorium.oip.v2 import inference_pb2 as pb

from shared.inference.datatypes import (
    CONTENTS_FIELDS,
    NUMPY_TYPES,
    Array,
    decode_contents,
    decode_raw,
    describe_raw,
    encode_contents,
    encode_raw,
    widen,
)

SHAPES = npst.array_shapes(max_dims=3, min_side=0, max_side=4)
# What UTF-8 can say: no lone surrogates.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, Array]:
    datatype = draw(st.sampled_from(sorted(NUMPY_TYPES)))
    shape = draw(SHAPES)
    if datatype == "BYTES":
        count = int(np.prod(shape))
        flat = np.empty(count, dtype=object)
        flat[:] = draw(st.lists(TEXTS, min_size=count, max_size=count))
        return datatype, flat.reshape(shape)
    return datatype, draw(npst.arrays(NUMPY_TYPES[datatype], shape))


@given(tensors())
def test_raw_bytes_come_back(tensor: tuple[str, Array]) -> None:
    datatype, array = tensor
    raw = encode_raw(datatype, array)
    back = decode_raw(datatype, array.shape, raw)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    if datatype == "BYTES":
        assert back.tolist() == array.tolist()
    else:
        # By their bytes: NaNs keep their payload.
        assert back.tobytes() == array.tobytes()
        assert not back.flags.writeable


@given(tensors())
def test_typed_lists_come_back(tensor: tuple[str, Array]) -> None:
    datatype, array = tensor
    contents = pb.InferTensorContents()
    if datatype in ("FP16", "BF16"):
        with pytest.raises(ValueError, match="typed contents"):
            decode_contents(datatype, array.shape, contents)
        return
    encode_contents(datatype, array, contents)
    back = decode_contents(datatype, array.shape, contents)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    if datatype == "BYTES":
        assert back.tolist() == array.tolist()
    else:
        np.testing.assert_array_equal(back, array)


@given(tensors(), st.binary(max_size=64))
def test_bytes_of_any_kind_are_read_or_refused(tensor: tuple[str, Array], raw: bytes) -> None:
    datatype, array = tensor
    try:
        back = decode_raw(datatype, array.shape, raw)
    except ValueError:
        return
    assert back.shape == array.shape


@pytest.mark.parametrize("datatype", sorted(NUMPY_TYPES))
def test_a_huge_claim_is_refused_before_anything_is_allocated(datatype: str) -> None:
    shape = [2**31, 2**31, 4]
    with pytest.raises(ValueError, match="8 bytes"):
        decode_raw(datatype, shape, b"12345678")
    assert describe_raw(datatype, shape)
    if datatype in CONTENTS_FIELDS:
        with pytest.raises(ValueError, match="0 elements"):
            decode_contents(datatype, shape, pb.InferTensorContents())


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\x05\x00\x00\x00abc\x00", "element 0 of 5 bytes, 4 bytes left"),
        (b"\x01\x00\x00\x00a\x00\x00\x00", "before element 1"),
        (b"\x00\x00\x00\x00\x00\x00\x00\x00!", "1 bytes behind the last of 2"),
        (b"\x02\x00\x00\x00\xff\xfe\x00\x00\x00\x00", "element 0 that is not UTF-8 at byte 0"),
        (b"\xff\xff\xff\xff\x00\x00\x00\x00", "element 0 of 4294967295 bytes"),
    ],
)
def test_broken_bytes_tensors_say_where(raw: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_raw("BYTES", [2], raw)


@pytest.mark.parametrize(("datatype", "value"), [("INT8", 128), ("INT16", -32769), ("UINT8", 256)])
def test_numbers_outside_of_their_type_are_refused(datatype: str, value: int) -> None:
    contents = pb.InferTensorContents()
    getattr(contents, CONTENTS_FIELDS[datatype]).extend([1, value])
    with pytest.raises(ValueError, match=f"element 1 = {value}, outside"):
        decode_contents(datatype, [2], contents)


def test_elements_in_another_list_are_refused() -> None:
    contents = pb.InferTensorContents(fp64_contents=[1.0])
    with pytest.raises(ValueError, match="elements in fp64_contents"):
        decode_contents("FP32", [1], contents)


def test_bf16_is_the_upper_half_of_fp32() -> None:
    bits = np.array([0x3F80, 0xC000, 0x7F80, 0x0001, 0x7FC0], np.uint16)
    wide = widen("BF16", bits)
    assert wide.dtype == np.float32
    assert wide[:3].tolist() == [1.0, -2.0, float("inf")]
    assert 0 < wide[3] < 1e-38
    assert np.isnan(wide[4])
    # The others are numbers already.
    assert widen("FP32", wide) is wide
