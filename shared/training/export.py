"""From a trained torch module to the bytes of an ONNX graph that the mesh can serve.

    content = to_onnx(
        module,
        {"input_ids": ids, "attention_mask": mask},     # an example, named as forward's parameters are
        ["logits"],
        {"input_ids": {0: "batch", 1: "length"}, "attention_mask": {0: "batch", 1: "length"}},
    )
    parity = check_parity(module, content, held_out_batches)     # parity.py

Lives here: exporting, the graph's tidying and the checks that it is one that the mesh can batch. Not here: comparing
answers (`parity.py`), smaller forms (`compression/`), artifacts (`release.py`).

What to know when writing a network (torch 2.13, whose exporter traces with `torch.export`):
- An example needs at least 2 rows and 2 steps, and different numbers of them: a 1 is taken for a constant.
- LSTM, GRU, RNN: take `recurrent.Recurrent`. torch.nn's own, where they run in both directions, fix the length to the
  example's (refused here) and let filling into the backward pass, so that batch-mates change an answer. In one direction,
  or where no axis but the batch may vary, they do work.
- EmbeddingBag becomes a Loop over rows, and its number of rows an expression: refused. Take nn.Embedding and a masked or
  weighted sum over the steps; the answer is the same.
- Attention: mask with `masked_fill(…, torch.finfo(x.dtype).min)` before softmax. `scaled_dot_product_attention` exports and
  agrees, but brings IsNaN and Where over all scores; nn.TransformerEncoder needs `enable_nested_tensor=False`.
- Positions: `torch.arange(ids.shape[1])` stays dynamic; a slice of a buffer up to `ids.shape[1]` does too. `int(…)`,
  `.item()` and Python's `if` on a shape fix it.
- Spectra: `torch.stft` exports (STFT) and agrees; a Conv1d with windowed cosines and sines is exported as well and is what
  every provider runs fast.
- BatchNorm is folded into the convolution before it, Dropout is gone. Weights are float32; make integers int64.
- Masked means: divide by `mask.sum(1).clamp(min=1)`, for a batch is filled up with whole rows of zeros now and then.
The same module gives the same bytes, whatever PYTHONHASHSEED and the folder are: traces of source code, with their paths,
are taken out.
"""

from __future__ import annotations

import copy
import inspect
import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager

import onnx
import torch
from onnx import ModelProto, TensorProto
from torch import Tensor, nn

from shared.inference.manifest import Tensor as Signature
from shared.training.errors import TrainingError
from shared.training.parity import check_parity
from shared.training.recurrent import Recurrent, translations

__all__ = ["ExportError", "check_parity", "fold_temperature", "read_signature", "to_onnx"]

# ReduceSum and LayerNormalization as torch means them; what older ONNX Runtimes (1.14) and all converters read.
OPSET = 18
_LOWEST, _HIGHEST = 17, 20

_REFUSED = {
    "Loop": "a Loop runs node by node: take nn.Embedding and a weighted sum instead of nn.EmbeddingBag",
    "Scan": "a Scan runs node by node: take recurrent.Recurrent",
    "SequenceEmpty": "sequences cannot be batched: take tensors",
    "DynamicQuantizeLinear": "one scale over a batch lets batch-mates change an answer: quantize weights, or statically",
    "RandomNormal": "an answer must not be drawn: is the module in evaluation mode?",
    "RandomUniform": "an answer must not be drawn: is the module in evaluation mode?",
    "RandomNormalLike": "an answer must not be drawn: is the module in evaluation mode?",
    "RandomUniformLike": "an answer must not be drawn: is the module in evaluation mode?",
}
_TYPES = {
    TensorProto.FLOAT: "FP32",
    TensorProto.FLOAT16: "FP16",
    TensorProto.DOUBLE: "FP64",
    TensorProto.INT64: "INT64",
    TensorProto.INT32: "INT32",
    TensorProto.INT8: "INT8",
    TensorProto.UINT8: "UINT8",
    TensorProto.BOOL: "BOOL",
}


class ExportError(TrainingError):
    """A module cannot become a graph that the mesh can serve; the text says what to write otherwise."""


def to_onnx(
    module: nn.Module,
    example: Mapping[str, Tensor],
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    *,
    opset: int = OPSET,
) -> bytes:
    """Export a module: one graph, its weights inside, the same bytes every time. The module itself is left as it is.

    example: input -> tensor, named as `forward`'s parameters are, in their order; two rows or more. dynamic: input -> axis
    -> name; axes of one name are equally long; without it the first axis of every input is the batch.

    Raises:
        ExportError: the example does not fit, an axis came out fixed, or the graph has an operator that is refused.
    """
    if not _LOWEST <= opset <= _HIGHEST:
        raise ExportError(f"opset: expected {_LOWEST} to {_HIGHEST}, got {opset}")
    axes = {name: {0: "batch"} for name in example} if dynamic is None else dynamic
    _check_example(module, example, axes)
    network = _prepare(module)
    tensors = {name: tensor.detach().cpu() for name, tensor in example.items()}
    dimensions = {name: torch.export.Dim(name) for named in axes.values() for name in named.values()}
    shapes = {name: {axis: dimensions[said] for axis, said in axes.get(name, {}).items()} for name in tensors}
    with _quietly(), torch.no_grad():
        try:
            # Traced here: torch.onnx would go on from a trace that fails to others, whose graphs differ from call to call.
            traced = torch.export.export(network, (), tensors, dynamic_shapes=shapes, strict=False)
            program = torch.onnx.export(
                traced,
                input_names=list(tensors),
                output_names=list(outputs),
                opset_version=opset,
                dynamo=True,
                external_data=False,
                verbose=False,
                custom_translation_table=translations(),
            )
        except (torch.onnx.errors.OnnxExporterError, torch._dynamo.exc.TorchDynamoException) as error:
            raise ExportError(f"torch cannot export {type(module).__name__}: {_explain(error)}") from error
    model = program.model_proto
    _tidy(model, axes)
    _check_graph(model, list(example), list(outputs), axes)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def fold_temperature(last: nn.Linear, temperature: float) -> None:
    """Divide a last layer's weights and bias by the calibration temperature, in place: its logits become calibrated.

    Do it to a copy before exporting; the softmax of what is served is then the score that was calibrated.
    """
    with torch.no_grad():
        last.weight /= temperature
        if last.bias is not None:
            last.bias /= temperature


def read_signature(content: bytes) -> tuple[tuple[Signature, ...], tuple[Signature, ...]]:
    """Inputs and outputs of a graph as artifact.json states them; dynamic axes are -1."""
    graph = onnx.load_model_from_string(content).graph
    return tuple(map(_describe, graph.input)), tuple(map(_describe, graph.output))


def _describe(value: onnx.ValueInfoProto) -> Signature:
    tensor = value.type.tensor_type
    if tensor.elem_type not in _TYPES:
        named = TensorProto.DataType.Name(tensor.elem_type)
        raise ExportError(f"{value.name}: expected one of {', '.join(_TYPES.values())}, got {named}")
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim)
    return Signature(value.name, _TYPES[tensor.elem_type], shape)


def _check_example(
    module: nn.Module, example: Mapping[str, Tensor], axes: Mapping[str, Mapping[int, str]]
) -> None:
    parameters = list(inspect.signature(module.forward).parameters)
    if list(example) != parameters[: len(example)]:
        raise ExportError(f"example: expected forward's parameters {parameters}, got {list(example)}")
    if unknown := sorted(axes.keys() - example.keys()):
        raise ExportError(f"dynamic: expected inputs {list(example)}, got {unknown[0]!r}")
    lengths: dict[str, int] = {}
    for name, named in axes.items():
        for axis, said in named.items():
            if not 0 <= axis < example[name].dim():
                raise ExportError(
                    f"dynamic: {name}: expected an axis of {list(example[name].shape)}, got {axis}"
                )
            length = example[name].shape[axis]
            if length < 2:
                raise ExportError(
                    f"example: {name}: expected at least 2 along axis {axis}, for a {length} counts as fixed"
                )
            if lengths.setdefault(said, length) != length:
                raise ExportError(
                    f"example: axis {said!r}: expected one length, got {lengths[said]}, {length}"
                )


def _prepare(module: nn.Module) -> nn.Module:
    """A copy to be traced: on the CPU, in float32, evaluating, its recurrent layers as ONNX has them."""
    network = copy.deepcopy(module).cpu().float().eval().requires_grad_(False)
    if isinstance(network, Recurrent):
        return network.exportable().eval()
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Recurrent):
                setattr(parent, name, child.exportable().eval())
    return network


def _tidy(model: ModelProto, axes: Mapping[str, Mapping[int, str]]) -> None:
    """Take out what differs between machines and folders: traces, paths, versions, drawn names of axes."""
    model.producer_name, model.producer_version = "sensorium", ""
    model.ClearField("doc_string")
    model.ClearField("metadata_props")
    graph = model.graph
    graph.name = "model"
    graph.ClearField("doc_string")
    graph.ClearField("metadata_props")
    # Shapes between the nodes are inferred when the graph is opened.
    graph.ClearField("value_info")
    drawn = {
        value.type.tensor_type.shape.dim[axis].dim_param: said
        for value in graph.input
        for axis, said in axes.get(value.name, {}).items()
    }
    for value in (*graph.input, *graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = drawn.get(axis.dim_param, axis.dim_param)
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def _check_graph(
    model: ModelProto, inputs: list[str], outputs: list[str], axes: Mapping[str, Mapping[int, str]]
) -> None:
    operators = {node.op_type: node.name for node in model.graph.node}
    for refused, reason in _REFUSED.items():
        if refused in operators:
            raise ExportError(f"{refused} ({operators[refused]}): {reason}")
    for node in model.graph.node:
        if node.domain:
            raise ExportError(
                f"{node.op_type} ({node.name}): expected an operator of ONNX, got {node.domain!r}"
            )
    if any(item.data_location == TensorProto.EXTERNAL for item in model.graph.initializer):
        raise ExportError("weights: expected inside the graph, got a second file: it is too large for one")
    for side, values, names in (
        ("inputs", model.graph.input, inputs),
        ("outputs", model.graph.output, outputs),
    ):
        if (got := [value.name for value in values]) != names:
            raise ExportError(f"{side}: expected {names}, got {got}; is one of them not used?")
    for value in model.graph.input:
        shape = value.type.tensor_type.shape.dim
        for axis, said in axes.get(value.name, {}).items():
            if not shape[axis].dim_param:
                raise ExportError(
                    f"{value.name}: expected axis {axis} ({said}) of any length, it was fixed to "
                    f"{shape[axis].dim_value}: something in the network depends on it; see shared/training/export.py"
                )
    if any(0 in named for named in axes.values()):
        for value in model.graph.output:
            shape = value.type.tensor_type.shape.dim
            if not shape or not shape[0].dim_param:
                raise ExportError(f"{value.name}: expected the batch as the first axis of this output")


@contextmanager
def _quietly():  # noqa: ANN202 - a generator for contextmanager
    """Without what torch and onnxscript say of operators and packages that nobody asked for."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _explain(error: Exception) -> str:
    """The lines of torch's text that say what is wrong, without its advice on its own options."""
    lines = [line.strip(" -") for line in str(error.__cause__ or error).splitlines() if line.strip()]
    found = [line for line in lines if line.startswith("You marked ")]
    said = (found or lines or [type(error).__name__])[0]
    if matched := re.search(
        r"You marked (\w+) as dynamic but .* specialized it to be a constant \((\d+)\)", said
    ):
        return (
            f"axis {matched[1]!r}: expected any length, it was fixed to {matched[2]}: something in the network depends on "
            "it; see shared/training/export.py"
        )
    return said[:300]
