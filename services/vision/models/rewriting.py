"""Rewrites a published graph into one that means the same and that ONNX Runtime computes faster.

ONNX Runtime keeps convolutions in a blocked layout and leaves it for every operation it has no blocked kernel for.
Exporters write a hard swish as four such operations, and a learned scale and shift as two more. Here: the rules that
turn them into convolutions and activations that stay in that layout. The answers agree with the published graph's
to rounding, which golden runs made by the published graph prove. Not here: names, axes (`signature.py`).
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

# The gate of a hard swish: max(0, min(1, x / 6 + 1 / 2)).
_GATE: dict[str, Any] = {"alpha": 1 / 6, "beta": 0.5}
# A scale so close to 1 is one: 6 and the float32 next to 1/6 multiply to 1 + 3e-8.
_ONE = 1e-7


class Rewriter:
    """One graph being rewritten: its nodes in order, its constants, who reads what."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.constants: dict[str, NDArray[np.generic]] = {
            item.name: numpy_helper.to_array(item) for item in self.graph.initializer
        }
        for node in self.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self.nodes = [node for node in self.graph.node if node.output[0] not in self.constants]
        self.outputs = {item.name for item in self.graph.output}

    def rewrite(self) -> None:
        """Apply the rules, in the order in which one makes room for the next."""
        self.join_gates()
        while self.move_scale_outwards() or self.merge_scales():
            pass
        self.fold_into_previous()
        self.fold_into_next()
        self.write_as_convolution()
        self.store()

    def store(self) -> None:
        """Put nodes and constants back into the model."""
        used = {name for node in self.nodes for name in node.input}
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend(
            numpy_helper.from_array(value, name) for name, value in self.constants.items() if name in used
        )

    def join_gates(self) -> None:
        """clip(x + 3, 0, 6) becomes 6 * HardSigmoid(x); a division by a number becomes a scale."""
        makers, readers = self.makers(), self.readers()
        for node in list(self.nodes):
            if node.op_type == "Div" and (divisor := self.number(node.input[1])):
                scale = self.constant(f"{node.output[0]}/scale", 1 / divisor)
                self.replace([node], [helper.make_node("Mul", [node.input[0], scale], node.output)])
            shifted = makers.get(node.input[0]) if node.op_type == "Clip" else None
            if shifted is None or self.affine(shifted) != (1.0, 3.0) or len(readers[shifted.output[0]]) != 1:
                continue
            if [self.number(name) for name in node.input[1:]] == [0, 6]:
                name, six = node.output[0], self.constant("rewriting/six", 6)
                gate = helper.make_node("HardSigmoid", [self.variable(shifted)], [f"{name}/gate"], **_GATE)
                self.replace([shifted, node], [gate, helper.make_node("Mul", [gate.output[0], six], [name])])

    def move_scale_outwards(self) -> bool:
        """a * (b * number) becomes (a * b) * number, once. Says whether there was one."""
        makers, readers = self.makers(), self.readers()
        for node in self.nodes:
            if node.op_type != "Mul" or self.affine(node):
                continue
            for place, name in enumerate(node.input):
                inner = makers.get(name)
                if (
                    inner is None
                    or inner.op_type != "Mul"
                    or not self.affine(inner)
                    or len(readers[name]) != 1
                ):
                    continue
                other, (scale, _shift) = node.input[1 - place], self.affine(inner) or (1.0, 0.0)
                bare = helper.make_node("Mul", [other, self.variable(inner)], [f"{node.output[0]}/bare"])
                number = self.constant(f"{node.output[0]}/scale", scale)
                self.replace(
                    [inner, node], [bare, helper.make_node("Mul", [bare.output[0], number], node.output)]
                )
                return True
        return False

    def merge_scales(self) -> bool:
        """(x * number) * number becomes x * number, or x where that is 1. Says whether there was one."""
        makers, readers = self.makers(), self.readers()
        for node in self.nodes:
            if node.op_type != "Mul" or not (outer := self.affine(node)):
                continue
            name = self.variable(node)
            inner = makers.get(name)
            if inner is None or len(readers[name]) != 1:
                continue
            if inner.op_type == "Mul" and (step := self.affine(inner)):
                number = self.constant(f"{node.output[0]}/scale", outer[0] * step[0])
                self.replace(
                    [inner, node], [helper.make_node("Mul", [self.variable(inner), number], node.output)]
                )
                return True
            if abs(outer[0] - 1) < _ONE:
                self.replace([node], [])
                inner.output[list(inner.output).index(name)] = node.output[0]
                return True
        return False

    def fold_into_previous(self) -> None:
        """A scale or shift of everything that a convolution computes becomes part of its weights."""
        readers = self.readers()
        for node in [node for node in self.nodes if node.op_type == "Conv"]:
            while len(followers := readers[node.output[0]]) == 1 and (step := self.affine(followers[0])):
                scale, shift = step
                weight, bias = self.weights(node)
                self.set_weights(node, weight * scale, bias * scale + shift)
                self.replace([followers[0]], [])
                node.output[0] = followers[0].output[0]

    def fold_into_next(self) -> None:
        """A scale of everything that convolutions read becomes part of their weights.

        So does a shift, unless a convolution pads: its border of zeros is not shifted.
        """
        readers = self.readers()
        for node in reversed([node for node in self.nodes if self.affine(node)]):
            followers, (scale, shift) = readers[node.output[0]], self.affine(node) or (1.0, 0.0)
            if not followers or not all(self.is_foldable(item, shift) for item in followers):
                continue
            source = self.variable(node)
            for follower in followers:
                weight, bias = self.weights(follower)
                self.set_weights(follower, weight * scale, bias + shift * weight.sum(axis=(1, 2, 3)))
                follower.input[0] = source
            self.replace([node], [])
            readers[source] = [item for item in readers[source] if item is not node] + followers

    def write_as_convolution(self) -> None:
        """A scale, with the shift that follows it, becomes a convolution with one weight for each channel."""
        makers, readers = self.makers(), self.readers()
        for node in [node for node in self.nodes if node.op_type == "Mul" and self.affine(node)]:
            name, scale, last = self.variable(node), (self.affine(node) or (1.0, 0.0))[0], node
            if (channels := self.channels(name, makers)) is None:
                continue
            after = readers[node.output[0]]
            if len(after) == 1 and after[0].op_type == "Add" and self.affine(after[0]):
                last = after[0]
            if not any(item.op_type == "Conv" for item in readers[last.output[0]]):
                continue
            shift = 0.0 if last is node else (self.affine(last) or (1.0, 0.0))[1]
            joined = helper.make_node("Conv", [name], last.output, kernel_shape=[1, 1], group=channels)
            weight = np.full((channels, 1, 1, 1), scale, np.float32)
            self.set_weights(joined, weight, np.full(channels, shift, np.float32))
            self.replace([node] if last is node else [node, last], [joined])

    def channels(self, name: str, makers: Mapping[str, NodeProto]) -> int | None:
        """The channels of a value that a convolution and what acts on each number alone have made; else None."""
        node = makers.get(name)
        if node is not None and node.op_type == "Conv":
            return int(self.constants[node.input[1]].shape[0])
        if node is not None and node.op_type in ("Mul", "HardSigmoid", "Relu", "BatchNormalization"):
            return self.channels(node.input[0], makers)
        return None

    def constant(self, name: str, value: float) -> str:
        """Declare a number."""
        self.constants[name] = np.array(value, np.float32)
        return name

    def makers(self) -> dict[str, NodeProto]:
        """Which node computes a value."""
        return {name: node for node in self.nodes for name in node.output}

    def readers(self) -> dict[str, list[NodeProto]]:
        """Which nodes read a value; an output of the graph has a reader that is no node, so it is never alone."""
        found: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                found[name].append(node)
        for name in self.outputs:
            found[name] += [NodeProto(), NodeProto()]
        return found

    def replace(self, old: list[NodeProto], new: list[NodeProto]) -> None:
        """Take nodes out, put others where the last of them was: the order stays that of computing."""
        place = next(index for index, node in enumerate(self.nodes) if node is old[-1]) + 1
        self.nodes[place:place] = new
        self.nodes = [node for node in self.nodes if all(node is not item for item in old)]

    def number(self, name: str) -> float | None:
        """The one real number of a constant; None where the value is no constant or holds several."""
        value = self.constants.get(name)
        if value is None or value.dtype != np.float32 or value.size != 1:
            return None
        return float(value.item())

    def affine(self, node: NodeProto) -> tuple[float, float] | None:
        """The scale and shift that a node is, if it multiplies by a number or adds one."""
        if node.op_type not in ("Mul", "Add") or len(node.input) != 2:
            return None
        numbers = [value for name in node.input if (value := self.number(name)) is not None]
        if len(numbers) != 1:
            return None
        return (numbers[0], 0.0) if node.op_type == "Mul" else (1.0, numbers[0])

    def variable(self, node: NodeProto) -> str:
        """The input of a scale or shift that is no constant."""
        return next(name for name in node.input if name not in self.constants)

    def is_foldable(self, node: NodeProto, shift: float) -> bool:
        """Whether a scale and this shift before a node can become part of its weights."""
        if node.op_type != "Conv" or node.input[1] not in self.constants:
            return False
        padded = (
            any(self.attribute(node, "pads", [0])) or self.attribute(node, "auto_pad", b"NOTSET") != b"NOTSET"
        )
        return not (padded and shift)

    def weights(self, node: NodeProto) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A convolution's weight and bias; zeros where it has none."""
        weight = self.constants[node.input[1]].astype(np.float32)
        has_bias = len(node.input) > 2 and node.input[2]
        bias = self.constants[node.input[2]] if has_bias else np.zeros(weight.shape[0])
        return weight, bias.astype(np.float32)

    def set_weights(self, node: NodeProto, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
        """Give a convolution weights of its own."""
        names = [f"{node.output[0]}/weight", f"{node.output[0]}/bias"]
        self.constants |= dict(zip(names, (weight.astype(np.float32), bias.astype(np.float32)), strict=True))
        node.input[:] = [node.input[0], *names]

    @staticmethod
    def attribute(node: NodeProto, name: str, default: Any) -> Any:
        """An attribute's value."""
        return next(
            (helper.get_attribute_value(item) for item in node.attribute if item.name == name), default
        )


def rewrite(model: onnx.ModelProto) -> None:
    """Rewrite a model in place. Graphs in which no rule finds its pattern keep their meaning and their nodes."""
    Rewriter(model).rewrite()
