"""Recipe of centernet: the TensorFlow.js weights, read from their shard, in the committed ONNX graph.

Here: the shard's format, layouts, labels. Not here: the decoding after the graph (services/vision/pipeline),
the graph's making (services/vision/training/export_centernet.py).
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.vision.models.rewriting import rewrite
from services.vision.models.signature import read_model
from shared.inference.artifact import Draft, GraphDraft, Tensor
from shared.inference.weights import fill_graph

MANIFEST = "package/models/centernet.json"
SHARD = "package/models/centernet.bin"
LABELS = "package/src/object/labels.ts"
IMAGE_SIZE = 512
# The heads look at every fourth pixel.
CELL = 4
GRID = IMAGE_SIZE // CELL
DETECTIONS = 100
CLASSES = 80
# Below it the graph blanks a detection; no request can ask for less.
SCORE_FLOOR = 0.1

_LABEL = re.compile(r"\{ class: (\d+), label: '([^'\\]+)' \}")
# Multipliers of the original decoder (all CELL), which the committed graph spells out itself.
_DECODER = frozenset(f"tower_0/mul_{index}/y" for index in (3, 4, 5, 6))
# On-disk dtype by the manifest's names. A float16 shard holds the numbers themselves: no scale, no minimum.
_DTYPES = {("float32", None): "<f4", ("float32", "float16"): "<f2", ("int32", None): "<i4"}


def build(members: Mapping[str, bytes]) -> Draft:
    """Make the artifact of the catalogue's members (path in the archive -> bytes).

    Raises:
        KeyError: a member is missing. ValueError: a member is damaged or does not fit the graph.
    """
    here = Path(__file__)
    tensors = read_tensors(members[MANIFEST], members[SHARD])
    model = read_model(fill_graph(here.with_name("centernet.graph.onnx").read_bytes(), tensors), MANIFEST)
    rewrite(model)
    graph = GraphDraft(
        content=bytes(model.SerializeToString(deterministic=True)),
        file="model.onnx",
        inputs=(Tensor("image", "FP32", (-1, 3, IMAGE_SIZE, IMAGE_SIZE)),),
        outputs=(Tensor("detections", "FP32", (-1, DETECTIONS, 6)),),
        max_batch_size=8,
    )
    with np.load(here.with_name("centernet.golden.npz"), allow_pickle=False) as reference:
        golden: dict[str, NDArray[np.generic]] = {
            "model/in/image": expand_golden(reference["image"]),
            "model/out/detections": reference["detections"],
        }
    return Draft(
        graphs={"model": graph},
        constants={
            "image_size": IMAGE_SIZE,
            "mean": [0.0] * 3,
            "std": [1.0] * 3,
            "score_threshold": 0.3,
            "score_floor": SCORE_FLOOR,
            "iou_threshold": 0.4,
            "max_detections": DETECTIONS,
        },
        preprocessing="image-rgb-512-square/1",
        golden=golden,
        golden_made_by="TensorFlow.js 4.22.0 (cpu backend), the published graph and weights, one photograph",
        tolerance={
            "CPUExecutionProvider": {"rtol": 1e-3, "atol": 1e-2},
            # Room for TF32; estimated, not yet run on a GPU.
            "CUDAExecutionProvider": {"rtol": 1e-2, "atol": 1.0},
        },
        assets={
            "labels": ("labels.txt", "".join(f"{label}\n" for label in read_labels(members[LABELS])).encode())
        },
    )


def read_tensors(manifest: bytes, shard: bytes) -> dict[str, NDArray[np.float32]]:
    """Read a TensorFlow.js weight shard: float32 tensors by name, in ONNX's layout (channels first).

    Format: the manifest lists name, shape and dtype of the tensors, which lie in the shard one behind the
    other. Whole numbers (shapes, axes) are left out.

    Raises:
        ValueError: the manifest is not of this model's kind, or the shard is shorter or longer than it says.
    """
    tensors: dict[str, NDArray[np.float32]] = {}
    position = 0
    for entry in json.loads(manifest)["weightsManifest"][0]["weights"]:
        name, shape = entry["name"], tuple(entry["shape"])
        kind = (entry["dtype"], entry.get("quantization", {}).get("dtype"))
        if kind not in _DTYPES:
            raise ValueError(
                f"{MANIFEST}: tensor {name!r} is {kind[0]} stored as {kind[1]}, expected float16 or plain"
            )
        dtype, count = np.dtype(_DTYPES[kind]), math.prod(shape)
        if position + count * dtype.itemsize > len(shard):
            raise ValueError(f"{SHARD}: cut off inside tensor {name!r}; it has {len(shard)} bytes")
        values = np.frombuffer(shard, dtype, count, position).reshape(shape)
        position += values.nbytes
        if entry["dtype"] == "float32" and name not in _DECODER:
            tensors[name] = _to_channels_first(name, values.astype(np.float32))
    if position != len(shard):
        raise ValueError(f"{SHARD}: expected {position} bytes, got {len(shard)}")
    return tensors


def read_labels(source: bytes) -> list[str]:
    """Read the 80 class names out of the TypeScript list `{ class: 1, label: 'person' }, …`, in class order.

    Raises:
        ValueError: it does not name the classes 1 to 80, each once.
    """
    found = [(int(number), label) for number, label in _LABEL.findall(source.decode())]
    if [number for number, _label in found] != list(range(1, CLASSES + 1)):
        raise ValueError(f"{LABELS}: expected the classes 1 to {CLASSES} in order, found {len(found)}")
    return [label for _number, label in found]


def expand_golden(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn the committed half-size picture [n, 256, 256, 3] into the graph's input [n, 3, 512, 512], 0..255.

    Linear interpolation whose weights (3/4, 1/4) are exact in binary, so every machine makes the same
    numbers.
    """
    values = image.astype(np.float32)
    for axis in (1, 2):
        ends = np.pad(values, [(1, 1) if at == axis else (0, 0) for at in range(4)], mode="edge")
        before, after = np.split(ends, [ends.shape[axis] - 2], axis)[0], np.split(ends, [2], axis)[1]
        pair = np.stack([0.75 * values + 0.25 * before, 0.75 * values + 0.25 * after], axis + 1)
        values = pair.reshape(*values.shape[:axis], -1, *values.shape[axis + 1 :])
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def _to_channels_first(name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Kernels [h, w, in, out] to [out, in, h, w]; depthwise [h, w, channel, 1] to [channel, 1, h, w]."""
    if values.ndim != 4:
        return values
    order = (2, 3, 0, 1) if name.endswith("depthwise_weights") else (3, 2, 0, 1)
    return np.ascontiguousarray(values.transpose(order))
