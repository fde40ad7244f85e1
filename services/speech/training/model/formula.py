"""The log-mel front's spectrum as a formula in a graph: 206 kB that a small form need not store.

ONNX Runtime computes it once, when it opens the graph; a run then costs what it cost with the matrix inside.
"""

import math

import onnx
from onnxscript import opset18 as op
from onnxscript import script

from services.speech.training.model.logmel import FFT, WINDOW
from shared.training.compression.weights import set_nodes

_STORED = "front.spectrum"
# Numbers of the formula; it takes them as they stand here.
_WINDOW, _FFT, _BINS = float(WINDOW), float(FFT), FFT / 2 + 1
_STEP, _WINDOW_STEP = 2 * math.pi / FFT, 2 * math.pi / WINDOW


@script()
def _compute_spectrum():  # type: ignore[no-untyped-def]  # noqa: ANN202 - becomes a graph
    """`logmel.fourier_kernel`, [2 * 129, 1, 200]; steps are taken modulo a turn while they are whole, which is exact."""
    # A bare number beside a tensor would become a CastLike, which ONNX Runtime does not compute beforehand.
    fft, step = op.Constant(value_float=_FFT), op.Constant(value_float=_STEP)
    window_step, half = op.Constant(value_float=_WINDOW_STEP), op.Constant(value_float=0.5)
    time = op.Range(0.0, _WINDOW, 1.0)
    angle = op.Mod(op.Unsqueeze(op.Range(0.0, _BINS, 1.0), [1]) * time, fft, fmod=1) * step
    window = half - half * op.Cos(time * window_step)
    return op.Unsqueeze(op.Concat(op.Cos(angle), op.Neg(op.Sin(angle)), axis=0) * window, [1])


def without_spectrum(content: bytes) -> bytes:
    """The graph with the formula in place of the stored matrix; answers agree to rounding."""
    model = onnx.load_from_string(content)
    formula = _compute_spectrum.to_model_proto().graph
    [made] = formula.output
    for node in formula.node:
        node.name = f"spectrum.{node.name}"
        for names in (node.input, node.output):
            names[:] = [_STORED if name == made.name else f"spectrum.{name}" for name in names]
    stored = next(item for item in model.graph.initializer if item.name == _STORED)
    model.graph.initializer.remove(stored)
    set_nodes(model.graph, [*formula.node, *model.graph.node])
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
