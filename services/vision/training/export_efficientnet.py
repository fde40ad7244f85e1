"""Makes efficientnet.graph.onnx (without weights) and efficientnet.golden.npz out of the PyTorch model.

    .venv-training/bin/python -m services.vision.training.export_efficientnet WEIGHTS.pth PHOTO.png

Needs, in an environment of its own: torch==2.13.*, efficientnet-lite-pytorch==0.1.0 (the architecture), onnx,
pillow. The graph is written module by module instead of traced, so that its initializers carry the state
file's names. Here is only what is done once, when the model is taken in; serving reads the results through
the recipe.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, checker, helper, numpy_helper
from PIL import Image
from torch import nn

from services.vision.models.efficientnet import IMAGE_SIZE, normalize
from shared.inference.weights import strip_graph

MODELS = Path(__file__).parents[1] / "models"
# Of the two normalisations in use for this family, (u8 - 127) / 128 is the one the weights were made with: on
# five photographs the right class scores .95 with it and .78 with ImageNet's mean and deviation.


class GraphWriter:
    """Collects the nodes and initializers of one ONNX graph; every method returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = [
            numpy_helper.from_array(np.float32(0), "zero"),
            numpy_helper.from_array(np.float32(6), "six"),
        ]
        self.weights: list[str] = []

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        """Append one node."""
        self.nodes.append(helper.make_node(op, list(inputs), [output], output, **attributes))
        return output

    def weight(self, name: str, tensor: torch.Tensor) -> str:
        """Declare one tensor of the state file."""
        self.initializers.append(numpy_helper.from_array(tensor.detach().numpy(), name))
        self.weights.append(name)
        return name

    def convolution(
        self, name: str, module: nn.Conv2d, norm_name: str, norm: nn.BatchNorm2d, value: str
    ) -> str:
        """TensorFlow's SAME padding, convolution, batch norm (ONNX Runtime folds it into the convolution)."""
        padding = getattr(module, "static_padding", None)
        left, right, top, bottom = padding.padding if isinstance(padding, nn.ZeroPad2d) else (0, 0, 0, 0)
        weight = self.weight(f"{name}.weight", module.weight)
        value = self.add(
            "Conv", [value, weight], f"{name}.out", kernel_shape=module.kernel_size, strides=module.stride,
            group=module.groups, pads=[top, left, bottom, right],
        )  # fmt: skip
        parameters = [
            self.weight(f"{norm_name}.{part}", getattr(norm, part))
            for part in ("weight", "bias", "running_mean", "running_var")
        ]
        return self.add("BatchNormalization", [value, *parameters], f"{norm_name}.out", epsilon=norm.eps)

    def relu6(self, value: str) -> str:
        """Clip to 0..6, the network's only activation."""
        return self.add("Clip", [value, "zero", "six"], f"{value}.relu6")


def write_graph(model: EfficientNet) -> bytes:
    """Spell the network out as ONNX, weights included, with the outputs `logits` and `embedding`."""
    out = GraphWriter()
    value = out.relu6(out.convolution("_conv_stem", model._conv_stem, "_bn0", model._bn0, "image"))
    for index, block in enumerate(model._blocks):
        entry, at = value, f"_blocks.{index}"
        if block._block_args.expand_ratio != 1:
            value = out.convolution(f"{at}._expand_conv", block._expand_conv, f"{at}._bn0", block._bn0, value)
            value = out.relu6(value)
        value = out.convolution(
            f"{at}._depthwise_conv", block._depthwise_conv, f"{at}._bn1", block._bn1, value
        )
        value = out.relu6(value)
        value = out.convolution(f"{at}._project_conv", block._project_conv, f"{at}._bn2", block._bn2, value)
        shape = block._block_args
        if block.id_skip and shape.stride in (1, [1]) and shape.input_filters == shape.output_filters:
            value = out.add("Add", [value, entry], f"{at}.out")
    value = out.relu6(out.convolution("_conv_head", model._conv_head, "_bn1", model._bn1, value))
    value = out.add("GlobalAveragePool", [value], "pooled")
    embedding = out.add("Flatten", [value], "embedding", axis=1)
    weight, bias = out.weight("_fc.weight", model._fc.weight), out.weight("_fc.bias", model._fc.bias)
    out.add("Gemm", [embedding, weight, bias], "logits", transB=1)
    graph = helper.make_graph(
        out.nodes, "efficientnet-lite0",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, IMAGE_SIZE, IMAGE_SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1000]),
         helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 1280])],
        out.initializers,
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(made, full_check=True)
    return strip_graph(made.SerializeToString(), out.weights)


def run_reference(
    model: EfficientNet, image: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits and pooled embedding of one [n, 224, 224, 3] batch, by PyTorch."""
    with torch.no_grad():
        features = model.extract_features(torch.from_numpy(normalize(image)))
        embedding = features.mean(dim=(2, 3))
        logits: NDArray[np.float32] = model._fc(embedding).numpy()
        return logits, embedding.numpy()


def main() -> None:
    """Read the arguments, write the two files beside the recipe."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path, help="the package's .pth file")
    parser.add_argument("photo", type=Path, help="the photograph of the golden run (a cat)")
    arguments = parser.parse_args()
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(arguments.weights, map_location="cpu", weights_only=True))
    model.eval()
    (MODELS / "efficientnet.graph.onnx").write_bytes(write_graph(model))
    photo = Image.open(arguments.photo).convert("RGB")
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    square = photo.resize(
        (IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC, (left, top, left + side, top + side)
    )
    image = np.asarray(square, dtype=np.uint8)[None]
    logits, embedding = run_reference(model, image)
    np.savez_compressed(MODELS / "efficientnet.golden.npz", image=image, logits=logits, embedding=embedding)


if __name__ == "__main__":
    main()
