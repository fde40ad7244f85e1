"""Runs on a device of its own memory: inputs and outputs bound to it, one copy each way.

Not measured on a GPU, for there was none; on the CPU, where tests run it, binding costs some 5 µs a run and gains
nothing, so that sessions there go the short way (`session.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime

from shared.inference.datatypes import Array


def run_bound(
    session: onnxruntime.InferenceSession,
    inputs: Mapping[str, Array],
    outputs: Sequence[str],
    options: onnxruntime.RunOptions | None,
) -> list[Array]:
    """As `InferenceSession.run`; no text among the tensors. Raises what it raises."""
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_cpu_input(name, np.ascontiguousarray(array))
    for name in outputs:
        # Where the caller reads it: ONNX Runtime copies there as the run ends, through memory of its own choice.
        binding.bind_output(name, "cpu")
    binding.synchronize_inputs()
    session.run_with_iobinding(binding, options)
    binding.synchronize_outputs()
    # The binding goes with this function; its values' memory with the arrays.
    results: list[Array] = binding.copy_outputs_to_cpu()
    return results
