"""Recurrent layers that read each row up to its own length, in training and in an exported graph alike.

Lives here: the layer, and how it becomes ONNX's LSTM, GRU or RNN with `sequence_lens`. Not here: exporting itself
(`export.py`), what is made of the states.

Why not torch.nn.LSTM as it is: in both directions `torch.export` fixes it to the example's number of steps, so that the
graph takes texts of that one length only; and without lengths a backward pass begins in the filling, so that a row's
answer depends on how long its batch-mates are. Packed sequences, torch's way round the second, cannot be exported.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Kind = Literal["lstm", "gru", "rnn"]

_LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
# Where ONNX has each of torch's gates: torch holds i f g o and r z n, ONNX i o f c and z r h.
_GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn": (0,)}

# A name for the graph's node and the shape of its answer; only ONNX Runtime ever computes it.
torch.library.define(
    "sensorium::recurrent",
    "(Tensor steps, Tensor lengths, Tensor weight, Tensor recurrence, Tensor bias, str kind) -> Tensor",
)


@torch.library.register_fake("sensorium::recurrent")
def _shape_states(
    steps: Tensor, lengths: Tensor, weight: Tensor, recurrence: Tensor, bias: Tensor, kind: str
) -> Tensor:
    return steps.new_empty(steps.shape[0], steps.shape[1], recurrence.shape[0] * recurrence.shape[2])


class Recurrent(nn.Module):
    """Layers of an LSTM, a GRU or a plain tanh RNN over rows of unlike lengths.

    `between` is applied to the states between two layers in training and evaluation, a dropout for instance.
    """

    def __init__(
        self,
        kind: Kind,
        input_size: int,
        hidden_size: int,
        *,
        layers: int = 1,
        bidirectional: bool = False,
        between: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.output_size = hidden_size * (2 if bidirectional else 1)
        sizes = [input_size] + [self.output_size] * (layers - 1)
        self.layers = nn.ModuleList(
            _LAYERS[kind](size, hidden_size, batch_first=True, bidirectional=bidirectional) for size in sizes
        )
        self.between = nn.Identity() if between is None else between

    def forward(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """States, float32 [rows, steps, output_size], zero behind a row's end.

        steps: float32 [rows, steps, input_size]; lengths: int64 [rows], 0 is read as 1.
        """
        kept = lengths.clamp(min=1).cpu()
        for index, layer in enumerate(self.layers):
            packed = nn.utils.rnn.pack_padded_sequence(
                self.between(steps) if index else steps, kept, batch_first=True, enforce_sorted=False
            )
            states, _ = layer(packed)
            steps, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True, total_length=steps.shape[1])
        return steps

    def exportable(self) -> nn.Module:
        """The same layers with weights as ONNX holds them, for tracing only."""
        return _Exportable(self)


class _Exportable(nn.Module):
    """What `export.to_onnx` puts in a Recurrent's place."""

    def __init__(self, layers: Recurrent) -> None:
        super().__init__()
        self.kind = layers.kind
        self.between = layers.between
        self.count = len(layers.layers)
        for index, layer in enumerate(layers.layers):
            ends = ("l0", "l0_reverse") if layer.bidirectional else ("l0",)
            for name, parts in (
                ("weight", ("weight_ih",)),
                ("recurrence", ("weight_hh",)),
                ("bias", ("bias_ih", "bias_hh")),
            ):
                held = [
                    torch.cat([self._order(getattr(layer, f"{part}_{end}")) for part in parts])
                    for end in ends
                ]
                self.register_buffer(f"{name}_{index}", torch.stack(held).detach().clone())

    def _order(self, gates: Tensor) -> Tensor:
        """One direction's weights or biases, their gates in ONNX's order."""
        order = _GATES[self.kind]
        parts = gates.chunk(len(order))
        return torch.cat([parts[index] for index in order])

    def forward(self, steps: Tensor, lengths: Tensor) -> Tensor:
        kept = lengths.clamp(min=1)
        for index in range(self.count):
            steps = torch.ops.sensorium.recurrent(
                self.between(steps) if index else steps,
                kept,
                getattr(self, f"weight_{index}"),
                getattr(self, f"recurrence_{index}"),
                getattr(self, f"bias_{index}"),
                self.kind,
            )
        return steps


def translations() -> dict:
    """What `torch.onnx.export` needs to know of the node: its `custom_translation_table`."""
    from onnxscript import opset18 as op

    def to_onnx(steps, lengths, weight, recurrence, bias, kind):  # noqa: ANN001, ANN202 - onnxscript's values
        directions, _, hidden = recurrence.shape
        said = {"hidden_size": hidden, "direction": "bidirectional" if directions == 2 else "forward"}
        # [rows, steps, features] -> [steps, rows, features], ONNX's only layout that ONNX Runtime computes.
        inputs = (op.Transpose(steps, perm=[1, 0, 2]), weight, recurrence, bias, op.Cast(lengths, to=6))
        if kind == "lstm":
            states, _, _ = op.LSTM(*inputs, **said)
        elif kind == "gru":
            # torch multiplies the reset gate in after the recurrent product.
            states, _ = op.GRU(*inputs, **said, linear_before_reset=1)
        else:
            states, _ = op.RNN(*inputs, **said, activations=["Tanh"] * directions)
        # [steps, directions, rows, hidden] -> [rows, steps, directions * hidden]
        return op.Reshape(op.Transpose(states, perm=[2, 0, 1, 3]), op.Constant(value_ints=[0, 0, -1]))

    return {torch.ops.sensorium.recurrent.default: to_onnx}
