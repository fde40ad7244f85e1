"""Recipe of pp-ocr: the three published ONNX files as one artifact, and the characters that the reader knows.

All three are rewritten for speed (`rewriting.py`). `recognize` gets its last step inside: the best class and its
probability instead of 6,625 probabilities for each step, 2,200 times less to copy. Not here: cutting lines out
of a picture and joining characters (services/vision/pipeline).
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from services.vision.models.rewriting import rewrite
from services.vision.models.signature import read_model, redeclare
from shared.inference.artifact import Draft, GraphDraft, Tensor
from shared.inference.manifest import Batching, Cost

FOLDER = "rapidocr_onnxruntime/models"
DETECT = f"{FOLDER}/ch_PP-OCRv4_det_infer.onnx"
RECOGNIZE = f"{FOLDER}/ch_PP-OCRv4_rec_infer.onnx"
ORIENT = f"{FOLDER}/ch_ppocr_mobile_v2.0_cls_infer.onnx"
# Classes of the reader: the blank of CTC, the characters in the file's metadata, a space.
CLASSES = 6625
LINE_HEIGHT = 48

# Published output names.
DETECT_OUTPUT = "sigmoid_0.tmp_0"
ORIENT_OUTPUT = "save_infer_model/scale_0.tmp_1"
RECOGNIZE_OUTPUT = "softmax_11.tmp_0"


def build(members: Mapping[str, bytes]) -> Draft:
    """Make the artifact of the catalogue's members (path in the archive -> bytes).

    Raises:
        KeyError: a member is missing. ValueError: a member is damaged or not this model.
    """
    reader = read_model(members[RECOGNIZE], RECOGNIZE)
    characters = read_characters(reader)
    _append_best_class(reader)
    graphs = {
        # One page at a time: a run of several saves nothing on the pixels and costs their memory at once.
        "detect": _draft(
            read_model(members[DETECT], DETECT), "detect.onnx", 1, (-1, 3, -1, -1),
            {DETECT_OUTPUT: Tensor("probability", "FP32", (-1, 1, -1, -1))},
        ),
        "orient": _draft(
            read_model(members[ORIENT], ORIENT), "orient.onnx", 16, (-1, 3, LINE_HEIGHT, 192),
            {ORIENT_OUTPUT: Tensor("probabilities", "FP32", (-1, 2))},
        ),
        "recognize": _draft(
            reader, "recognize.onnx", 8, (-1, 3, LINE_HEIGHT, -1),
            {"indices": Tensor("indices", "INT64", (-1, -1)), "scores": Tensor("scores", "FP32", (-1, -1))},
        ),
    }  # fmt: skip
    with np.load(Path(__file__).with_name("pp_ocr.golden.npz"), allow_pickle=False) as reference:
        golden: dict[str, NDArray[np.generic]] = {
            key: to_input(reference[key]) if "/in/" in key else reference[key] for key in reference.files
        }
    return Draft(
        graphs=graphs,
        constants={
            # Of pixels scaled to 0..1, for every channel. The channels are blue, green, red.
            "mean": 0.5,
            "std": 0.5,
            "detect": {
                "max_side": 2000,
                "min_side": 736,
                "threshold": 0.3,
                "box_threshold": 0.5,
                "unclip_ratio": 1.6,
                "max_candidates": 1000,
            },
            "orient": {"threshold": 0.9},
            "recognize": {"max_width": 2048},
            "text_threshold": 0.5,
        },
        preprocessing="image-bgr-ppocr/1",
        golden=golden,
        golden_made_by="the untouched published ONNX files in ONNX Runtime 1.31.1, printed lines",
        tolerance={
            "CPUExecutionProvider": {"rtol": 1e-3, "atol": 1e-3},
            # Room for TF32; estimated, not yet run on a GPU.
            "CUDAExecutionProvider": {"rtol": 1e-2, "atol": 5e-2},
        },
        assets={"characters": ("characters.json", json.dumps(characters, ensure_ascii=False).encode())},
    )


def to_input(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn BGR pixels [n, h, w, 3] into a graph's input [n, 3, h, w], -1..1."""
    scaled = image.astype(np.float32) / np.float32(127.5) - np.float32(1)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def read_characters(reader: onnx.ModelProto) -> list[str]:
    """What each class of the reader stands for, in class order: "" (blank), the metadata's characters, " ".

    Raises:
        ValueError: the metadata do not list one character for each class.
    """
    listed = [item.value for item in reader.metadata_props if item.key == "character"]
    characters = ["", *(listed[0].split("\n") if listed else []), " "]
    if len(characters) != CLASSES:
        raise ValueError(f"{RECOGNIZE}: expected {CLASSES} classes, its metadata name {len(characters)}")
    return characters


def _append_best_class(reader: onnx.ModelProto) -> None:
    """Add the outputs `indices` and `scores`: the best class of each step and its probability."""
    reader.graph.node.extend(
        [
            helper.make_node("ArgMax", [RECOGNIZE_OUTPUT], ["indices"], axis=2, keepdims=0),
            helper.make_node("ReduceMax", [RECOGNIZE_OUTPUT], ["scores"], axes=[2], keepdims=0),
        ]
    )


def _draft(
    model: onnx.ModelProto,
    file: str,
    max_batch_size: int,
    shape: tuple[int, ...],
    outputs: Mapping[str, Tensor],
) -> GraphDraft:
    rewrite(model)
    image = Tensor("image", "FP32", shape)
    return GraphDraft(
        content=redeclare(model, {"x": image}, outputs),
        file=file,
        inputs=(image,),
        outputs=tuple(outputs.values()),
        max_batch_size=max_batch_size,
        # Pixels. Lines of unlike widths cannot share a run: the reader has no mask, and looks at all of a line at once
        # (filling a line of 256 columns up to 320 moved its scores by .14).
        batching=Batching(cost=Cost(input="image", axes=(0, 2, 3))),
    )
