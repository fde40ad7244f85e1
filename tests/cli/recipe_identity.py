"""A recipe whose graph answers with what it is given; the member `reason.txt`, if not empty, is why it fails."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto, helper

from shared.inference.draft import Draft, GraphDraft, Tensor


def build(members: Mapping[str, bytes]) -> Draft:
    reason = members["tiny_model/reason.txt"].decode()
    if reason:
        raise ValueError(reason)
    node = helper.make_node("Identity", ["x"], ["y"])
    shape = ["n", 2]
    graph = helper.make_graph(
        [node],
        "identity",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    example = np.ones((1, 2), np.float32)
    return Draft(
        graphs={
            "model": GraphDraft(
                content=model.SerializeToString(),
                file="model.onnx",
                inputs=(Tensor("x", "FP32", (-1, 2)),),
                outputs=(Tensor("y", "FP32", (-1, 2)),),
                max_batch_size=8,
            )
        },
        constants={},
        preprocessing="none/1",
        golden={"model/in/x": example, "model/out/y": example},
        golden_made_by="arithmetic",
        tolerance={"CPUExecutionProvider": {"rtol": 0.0, "atol": 0.0}},
    )
