"""The exported graph of a sound classifier, its smaller forms, and what each is worth.

Lives here: which parts keep float32 (the log-mel front: a DFT in int8 hears its own rounding), the measuring. Not here:
exporting and rewriting (`shared.training`), artifacts (`release_*.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from services.speech.training.model.formula import without_spectrum
from shared.inference.manifest import Parity
from shared.training.compression.calibrated import static_int8
from shared.training.compression.half import fp16
from shared.training.compression.latency import measure_latency
from shared.training.compression.pareto import Point, choose, write_points
from shared.training.compression.weights import weight_only_int8
from shared.training.evaluation.interval import wilson
from shared.training.export import to_onnx
from shared.training.parity import check_parity
from shared.training.release import PARITY, POINTS
from shared.training.run import Run

REFERENCE = "fp32"
PRECISIONS = {REFERENCE: "fp32", "fp16": "fp16", "int8 weights": "int8", "int8 sums": "int8"}
# Windows that ranges of int8 sums are learned from.
_CALIBRATION = 320
_BATCH = 64
# What a smaller form may lose of accuracy.
_MOST_LOST = 0.01


@dataclass(frozen=True)
class Forms:
    """All graphs that were tried, by name, what each is worth, and the float32 one's agreement with PyTorch."""

    contents: dict[str, bytes]
    points: list[Point]
    parity: Parity

    @property
    def chosen(self) -> str:
        """Name of the form that is served."""
        return next(point.name for point in self.points if point.chosen)


def make_forms(
    run: Run,
    network: nn.Module,
    held_out: NDArray[np.float32],
    judge: Callable[[NDArray[np.float32]], NDArray[np.bool_]],
    calibration: NDArray[np.float32],
    *,
    at_least: int,
) -> Forms:
    """Export, compress and measure.

    held_out: windows [items, length] that were not trained on; judge: which of their logits are right; calibration: windows
    of the training part as they are served; at_least: inputs that parity must have been checked with.
    """
    length = held_out.shape[1]
    network = network.cpu().eval()
    whole = to_onnx(network, {"audio": torch.from_numpy(held_out[:3])}, ["logits"], {"audio": {0: "batch"}})
    parity = check_parity(
        network,
        whole,
        ({"audio": held_out[at : at + _BATCH]} for at in range(0, len(held_out), _BATCH)),
        at_least=at_least,
        keep=run.out / PARITY,
    )
    nodes, weights = find_front(whole)
    ranges = [
        {"audio": calibration[at : at + 32]} for at in range(0, min(len(calibration), _CALIBRATION), 32)
    ]
    contents = {
        REFERENCE: whole,
        "fp16": fp16(whole, keep=("Log",)),
        "int8 weights": without_spectrum(weight_only_int8(whole, keep=weights)),
        "int8 sums": without_spectrum(static_int8(whole, ranges, keep=nodes)),
    }
    taken = measure_latency(contents, {"audio": np.zeros((1, length), np.float32)})
    points = []
    for name, content in contents.items():
        right = judge(run_graph(content, held_out))
        share = wilson(int(right.sum()), len(right))
        note = "front in float32, its spectrum as a formula" if "int8" in name else ""
        points.append(Point(name, share.value, share.low, share.high, taken[name], len(content), note=note))
    points = choose(points, reference=REFERENCE, most_lost=_MOST_LOST)
    write_points(run.out / POINTS, points)
    return Forms(contents, points, parity)


def find_front(content: bytes) -> tuple[list[str], list[str]]:
    """Nodes and initializers of the log-mel front: all that leads to the first logarithm."""
    graph = onnx.load_from_string(content).graph
    makers = {output: node for node in graph.node for output in node.output}
    initializers = {item.name for item in graph.initializer}
    wanted = [next(node for node in graph.node if node.op_type == "Log")]
    nodes: list[str] = []
    weights: list[str] = []
    while wanted:
        node = wanted.pop()
        nodes.append(node.name)
        weights += [name for name in node.input if name in initializers]
        wanted += [makers[name] for name in node.input if name in makers]
    return nodes, weights


def run_graph(content: bytes, audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of windows by a graph, with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.concatenate(
        [
            session.run(["logits"], {"audio": audio[at : at + _BATCH]})[0]
            for at in range(0, len(audio), _BATCH)
        ]
    )


def allow(off: float) -> dict[str, dict[str, float]]:
    """Tolerance of golden answers: the rounding of weights that was measured, and sums in another order."""
    return {
        "CPUExecutionProvider": {"rtol": 1e-3, "atol": round(1.2 * off + 2e-3, 4)},
        "CUDAExecutionProvider": {"rtol": 1e-2, "atol": round(1.2 * off + 5e-2, 4)},
    }
