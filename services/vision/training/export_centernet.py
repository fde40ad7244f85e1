"""Makes centernet.graph.onnx (without weights) and centernet.golden.npz out of the TensorFlow.js graph.

    .venv-training/bin/python -m services.vision.training.export_centernet MODEL.json PHOTO.png

MODEL.json lies beside its .bin file, as in the package. Needs, in an environment of its own: onnx, pillow;
node, and the variable MODULES naming a node_modules folder that holds @tensorflow/tfjs 4.22.0 (for the golden
run).

The network is translated node by node from channels-last to channels-first; what follows the two heads
(peaks, the best 100, boxes) is written anew for any batch, with the meaning that the original graph gives it.
Here is only what is done once, when the model is taken in.
"""

import argparse
import base64
import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, checker, helper, numpy_helper
from PIL import Image

from services.vision.models.centernet import (
    CELL,
    DETECTIONS,
    GRID,
    IMAGE_SIZE,
    SCORE_FLOOR,
    expand_golden,
    read_tensors,
)
from shared.inference.weights import strip_graph

MODELS = Path(__file__).parents[1] / "models"
PREFIX = "tower_0/"
GOLDEN_SIDE = IMAGE_SIZE // 2
# The part of the photograph (left, top, right, bottom) whose six clear detections are furthest apart in
# score, so that their order is the same on every processor.
GOLDEN_CROP = (6, 0, 511, 505)
Node = Mapping[str, Any]


class GraphWriter:
    """Collects ONNX nodes and the constants that are part of the graph (as opposed to weights)."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        """Append one node with one output, whose name is returned."""
        self.nodes.append(helper.make_node(op, list(inputs), [output], output, **attributes))
        return output

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Declare a constant that stays in the committed graph."""
        self.constants[name] = numpy_helper.from_array(value, name)
        return name


def attribute(node: Node, name: str) -> list[Any]:
    """Read a list attribute of a TensorFlow.js node: integers, or decoded strings."""
    found = node["attr"].get(name, {}).get("list", {})
    return [int(item) for item in found.get("i", [])] or [
        base64.b64decode(item).decode() for item in found.get("s", [])
    ]


def same_padding(kernel: Sequence[int], strides: Sequence[int], size: int) -> list[int]:
    """TensorFlow's SAME padding (the odd pixel goes to the right and the bottom) in ONNX's order."""
    totals = [
        max((-(-size // step) - 1) * step + length - size, 0)
        for length, step in zip(kernel, strides, strict=True)
    ]
    return [total // 2 for total in totals] + [total - total // 2 for total in totals]


class Translator:
    """Translates the network node by node; remembers every (square) feature map's side for the padding."""

    def __init__(self, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        self.tensors = tensors
        self.out = GraphWriter()
        self.sides = {f"{PREFIX}images": IMAGE_SIZE}
        self.used: dict[str, None] = {}
        self.out.constant("zero", np.float32(0))  # type: ignore[arg-type]
        self.out.constant("six", np.float32(6))  # type: ignore[arg-type]
        pointwise: dict[str, Callable[[Node, list[str]], None]] = dict.fromkeys(
            ("Add", "Mul", "Relu", "Sigmoid"), lambda node, inputs: self.elementwise(node["op"], node, inputs)
        )
        self.rules: dict[str, Callable[[Node, list[str]], None]] = {
            **dict.fromkeys(
                ("_FusedConv2D", "Conv2D", "FusedDepthwiseConv2dNative", "DepthwiseConv2dNative"),
                self.convolution,
            ),
            **pointwise,
            "Relu6": lambda node, inputs: self.elementwise("Clip", node, [*inputs, "zero", "six"]),
            "Identity": lambda node, inputs: self.elementwise("Identity", node, inputs),
            "Mean": self.mean,
            "ConcatV2": self.concatenation,
            "ResizeBilinear": self.resize,
        }

    def translate(self, node: Node) -> None:
        """Append one node's translation. Raises KeyError for an operation that has none."""
        self.rules[node["op"]](node, list(node["input"]))

    def read(self, name: str) -> str:
        """Note a weight that a node uses."""
        if name in self.tensors:
            self.used[name] = None
        return name

    def elementwise(self, op: str, node: Node, inputs: list[str]) -> None:
        """Translate an operation that has the same meaning in both."""
        self.sides[node["name"]] = max(self.sides.get(name, 1) for name in inputs)
        self.out.add(op, [self.read(name) for name in inputs], node["name"])

    def convolution(self, node: Node, inputs: list[str]) -> None:
        """Translate a convolution, plain or depthwise, with the bias and ReLU fused into it."""
        name, weight, side = node["name"], self.tensors[inputs[1]], self.sides[inputs[0]]
        kernel, strides = weight.shape[2:], attribute(node, "strides")[1:3]
        fused = attribute(node, "fused_ops")
        same = base64.b64decode(node["attr"]["padding"]["s"]) == b"SAME"
        groups = weight.shape[0] if weight.shape[1] == 1 and "Depthwise" in node["op"] else 1
        self.sides[name] = -(-side // strides[0]) if same else (side - kernel[0]) // strides[0] + 1
        self.out.add(
            "Conv", [inputs[0], *(self.read(item) for item in inputs[1:])],
            f"{name}.sum" if "Relu" in fused else name, kernel_shape=kernel, strides=strides, group=groups,
            pads=same_padding(kernel, strides, side) if same else [0] * 4,
        )  # fmt: skip
        if "Relu" in fused:
            self.out.add("Relu", [f"{name}.sum"], name)
        if set(fused) - {"BiasAdd", "Relu"}:
            raise ValueError(f"{name}: cannot translate the fused operations {fused}")

    def mean(self, node: Node, inputs: list[str]) -> None:
        """Translate the mean over both axes of the picture, the only mean there is."""
        self.sides[node["name"]] = 1
        self.out.add("GlobalAveragePool", inputs[:1], node["name"])

    def concatenation(self, node: Node, inputs: list[str]) -> None:
        """Translate joining along the channels."""
        self.sides[node["name"]] = self.sides[inputs[0]]
        self.out.add("Concat", inputs[:-1], node["name"], axis=1)

    def resize(self, node: Node, inputs: list[str]) -> None:
        """Double the side; neither aligned corners nor half-pixel centres, as every node here says."""
        self.sides[node["name"]] = self.sides[inputs[0]] * 2
        scales = self.out.constant("double", np.array([1, 1, 2, 2], np.float32))
        self.out.add(
            "Resize",
            [inputs[0], "", scales],
            node["name"],
            mode="linear",
            coordinate_transformation_mode="asymmetric",
        )


def write_decoder(out: GraphWriter, scores: str, reach: str) -> None:
    """From class scores [n, 80, 128, 128] and distances to the sides [n, 4, 128, 128] to 100 detections.

    Rows that score less than SCORE_FLOOR are blanked: the original fills its 100 rows with noise, whose order
    changes with the last bit of an addition.
    """
    cells = GRID * GRID
    row = out.constant("row", np.array([0, -1], np.int64))
    table = out.constant("table", np.array([0, 4, -1], np.int64))
    best = out.constant("best", np.array([DETECTIONS], np.int64))
    middle = out.constant("middle", np.array([1], np.int64))
    per_class = out.constant("cells", np.array(cells, np.int64))
    width = out.constant("width", np.array(GRID, np.int64))
    four = out.constant("four", np.array([1, 4, 1], np.int64))
    cell = out.constant("cell", np.array(CELL, np.float32))
    sign = out.constant("sign", np.array([-1, -1, 1, 1], np.float32).reshape(1, 4, 1))
    # A peak is a score that no neighbour of its own class exceeds.
    highest = out.add("MaxPool", [scores], "highest", kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    peaks = out.add("Where", [out.add("Equal", [scores, highest], "is_peak"), scores, "zero"], "peaks")
    out.nodes.append(
        helper.make_node("TopK", [out.add("Reshape", [peaks, row], "flat"), best], ["score", "index"])
    )
    kind = out.add("Div", ["index", per_class], "kind")
    place = out.add("Mod", ["index", per_class], "place")
    x, y = out.add("Mod", [place, width], "column"), out.add("Div", [place, width], "line")
    points = [
        out.add(
            "Unsqueeze",
            [out.add("Cast", [item], f"{item}_real", to=TensorProto.FLOAT), middle],
            f"{item}_row",
        )
        for item in (x, y)
    ]
    centre = out.add("Mul", [out.add("Concat", [*points, *points], "cell_of_corner", axis=1), cell], "centre")
    where = out.add("Expand", [out.add("Unsqueeze", [place, middle], "place_row"), four], "place_of_corner")
    sides = out.add(
        "GatherElements", [out.add("Reshape", [reach, table], "reach_rows"), where], "sides", axis=2
    )
    corners = out.add("Add", [centre, out.add("Mul", [sides, sign], "signed_sides")], "corners")
    rest = [
        out.add("Unsqueeze", ["score", middle], "score_row"),
        out.add(
            "Unsqueeze", [out.add("Cast", [kind], "kind_real", to=TensorProto.FLOAT), middle], "kind_row"
        ),
    ]
    rows = out.add("Concat", [corners, *rest], "rows", axis=1)
    floor = out.constant("floor", np.array(SCORE_FLOOR, np.float32))
    clear = out.add("GreaterOrEqual", [rest[0], floor], "is_clear")
    out.add(
        "Transpose", [out.add("Where", [clear, rows, "zero"], "clear_rows")], "detections", perm=[0, 2, 1]
    )


def write_graph(topology: Sequence[Node], tensors: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Translate the network as far as its two heads, append the decoder, take the weights out."""
    translator = Translator(tensors)
    heads = (f"{PREFIX}keypoints", f"{PREFIX}wh")
    needed, pending = set(), list(heads)
    by_name = {node["name"]: node for node in topology}
    while pending:
        name = pending.pop()
        if name not in needed and by_name[name]["op"] not in ("Const", "Placeholder"):
            needed.add(name)
            pending += by_name[name]["input"]
    done = {node["name"] for node in topology if node["op"] in ("Const", "Placeholder")}
    waiting = [node for node in topology if node["name"] in needed]
    while waiting:
        ready = [node for node in waiting if done.issuperset(node["input"])]
        for node in ready:
            translator.translate(node)
        done |= {node["name"] for node in ready}
        waiting = [node for node in waiting if node["name"] not in done]
    out = translator.out
    write_decoder(out, *heads)
    for node in out.nodes:
        node.input[:] = ["image" if name == f"{PREFIX}images" else name for name in node.input]
    weights = [numpy_helper.from_array(tensors[name], name) for name in translator.used]
    graph = helper.make_graph(
        out.nodes, "centernet",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, IMAGE_SIZE, IMAGE_SIZE])],
        [helper.make_tensor_value_info("detections", TensorProto.FLOAT, ["batch", DETECTIONS, 6])],
        [*out.constants.values(), *weights],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(made, full_check=True)
    return strip_graph(made.SerializeToString(), list(translator.used))


def run_reference(model: Path, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The original's detections [1, 100, 6] for one [512, 512, 3] image, by TensorFlow.js, floor applied."""
    with tempfile.TemporaryDirectory() as folder:
        pixels, answer = Path(folder, "image.f32"), Path(folder, "detections.f32")
        pixels.write_bytes(image.astype("<f4").tobytes())
        script = Path(__file__).with_name("reference_centernet.mjs")
        subprocess.run(["node", script, model, pixels, answer], check=True, timeout=900)
        found = np.frombuffer(answer.read_bytes(), "<f4").reshape(1, DETECTIONS, 6)
        return np.where(found[:, :, 4:5] >= SCORE_FLOOR, found, np.float32(0))


def main() -> None:
    """Read the arguments, write the two files beside the recipe."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="the package's centernet.json, its .bin beside it")
    parser.add_argument("photo", type=Path, help="the photograph of the golden run (512 x 512, a portrait)")
    arguments = parser.parse_args()
    manifest = arguments.model.read_bytes()
    tensors = read_tensors(manifest, arguments.model.with_suffix(".bin").read_bytes())
    topology = json.loads(manifest)["modelTopology"]["node"]
    (MODELS / "centernet.graph.onnx").write_bytes(write_graph(topology, tensors))
    # Half the side, enlarged again by the recipe: the committed file stays small.
    photo = Image.open(arguments.photo).convert("RGB")
    photo = photo.resize((GOLDEN_SIDE, GOLDEN_SIDE), Image.Resampling.BICUBIC, GOLDEN_CROP)
    image = np.asarray(photo, dtype=np.uint8)[None]
    detections = run_reference(arguments.model, expand_golden(image)[0].transpose(1, 2, 0))
    np.savez_compressed(MODELS / "centernet.golden.npz", image=image, detections=detections)


if __name__ == "__main__":
    main()
