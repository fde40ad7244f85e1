"""What the operators of a graph's file say of how it may be run.

No file is parsed, so that serving needs no graph library.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

# Take one scale over the whole batch, so that a row's answer would depend on its batch-mates.
_BATCH_WIDE = (b"DynamicQuantizeLinear", b"DynamicQuantizeMatMul", b"DynamicQuantizeLSTM")
# Take numbers of turns, or sizes of what they make, out of their inputs' values.
_BY_VALUE = (
    b"CenterCropPad",
    b"ConstantOfShape",
    b"Expand",
    b"Loop",
    b"OneHot",
    b"Pad",
    b"Range",
    b"Resize",
    b"Tile",
    b"Upsample",
)


def quantizes_over_batch(file: Path) -> bool:
    """Whether a graph holds an operator whose scale is taken over the whole batch (dynamic quantization)."""
    return _holds(file, _BATCH_WIDE)


def works_by_value(file: Path) -> bool:
    """Whether values, not shapes alone, may say how long a run takes; also where those values are constants."""
    return _holds(file, _BY_VALUE)


def _holds(file: Path, names: Sequence[bytes]) -> bool:
    """In an .onnx file an operator's name lies as a field of its node, tag 0x22 and its length before it; in an .ort
    file as plain text.
    """
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for name in names:
            wanted = name if file.suffix == ".ort" else bytes((0x22, len(name))) + name
            if content.find(wanted) >= 0:
                return True
    return False
