"""What this machine is, as far as results and timings depend on it: the CPU and the build of ONNX Runtime.

What a machine learns (tuned settings, optimised graphs) holds only where these are equal.
"""

from __future__ import annotations

import functools
import hashlib
import platform
from pathlib import Path

import onnxruntime


@functools.cache
def describe_cpu() -> str:
    """The CPU's model and a digest of what it can do, e.g. `x86_64 Intel(R) Xeon(R) Processor 5f0c2a81d3e4`."""
    model, flags = platform.processor() or "unknown", ""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []  # no Linux: the name is all there is to know
    for line in lines:
        key, _, value = (part.strip() for part in line.partition(":"))
        if key in ("model name", "CPU part", "Hardware"):
            model = value
        elif key in ("flags", "Features"):
            flags = " ".join(sorted(value.split()))
            break  # the first core stands for all
    return f"{platform.machine()} {model} {hashlib.sha256(flags.encode()).hexdigest()[:12]}"


@functools.cache
def describe_runtime() -> str:
    """The build of ONNX Runtime: version and what it was built from."""
    return f"{onnxruntime.__version__} {onnxruntime.get_build_info()}"
