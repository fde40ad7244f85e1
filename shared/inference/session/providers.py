"""ONNX Runtime's execution providers: their names, their options, and which of a list runs a graph and why.

Here: pure values and functions. Not here: opening sessions with them (`opening.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
# What this build has of the providers that are good for any graph, best first. TensorRT is not among them: it compiles for
# each new shape, for seconds to minutes; nor OpenVINO, which took 1.3 to 2 times the CPU time of the CPU provider here.
AUTO = "auto"
_AUTO = (CUDA, CPU)
# What settings may call them.
_SHORT_NAMES = {"cpu": CPU, "cuda": CUDA, "openvino": OPENVINO, "tensorrt": TENSORRT}
# Providers that compile graphs of their own, which take seconds to minutes, and keep them where they are told to.
COMPILING = (TENSORRT, OPENVINO)


def complete_name(name: str) -> str:
    """ONNX Runtime's name of a provider: `cuda` and `CUDA` mean `CUDAExecutionProvider`; others are left as they are."""
    if name.lower() == AUTO:
        return AUTO
    return _SHORT_NAMES.get(name.lower().removesuffix("executionprovider"), name)


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A provider that was preferred and does not run the graph."""

    provider: str
    reason: str

    def __str__(self) -> str:
        return f"{self.provider}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which provider runs a graph, how many nodes which one took, and which were passed over."""

    provider: str
    nodes: Mapping[str, int]  # by provider, the chosen one first; empty where ONNX Runtime does not tell
    passed_over: tuple[PassedOver, ...] = ()

    @property
    def explanation(self) -> str:
        """Why it is not the first of the list, or what else runs nodes of the graph; empty if there is nothing to say."""
        parts = [str(passed) for passed in self.passed_over]
        if len(self.nodes) > 1:
            parts.append("nodes: " + ", ".join(f"{name} {count}" for name, count in self.nodes.items()))
        return "; ".join(parts)


def make_options(
    provider: str, *, threads: int, precision: str | None, cache_dir: Path | None
) -> dict[str, str]:
    """The options that a provider is opened with; those that are not said keep ONNX Runtime's defaults.

    `precision` is what the graph is to be computed in, None = as its file says. `cache_dir` is where a provider
    that compiles keeps what it compiled.
    """
    if provider == CUDA:
        return {
            # TF32 keeps 10 bits of a product: golden outputs of fp32 graphs would be missed by 1e-3.
            "use_tf32": "0",
            # Exhaustive search, the default, tries every algorithm for each new shape, in the middle of a call.
            "cudnn_conv_algo_search": "HEURISTIC",
            # Doubling, the default, takes up to twice the memory that models side by side need.
            "arena_extend_strategy": "kSameAsRequested",
        }
    if provider == TENSORRT:
        options = {"trt_fp16_enable": "1" if precision == "fp16" else "0"}
        if cache_dir is not None:
            options |= {
                "trt_engine_cache_enable": "1",
                "trt_engine_cache_path": str(cache_dir),
                "trt_timing_cache_enable": "1",
                "trt_timing_cache_path": str(cache_dir),
            }
        return options
    if provider == OPENVINO:
        options = {"device_type": "CPU", "num_of_threads": str(threads)}
        if cache_dir is not None:
            options["cache_dir"] = str(cache_dir)
        return options
    return {}


def select(wanted: Sequence[str], available: Sequence[str]) -> tuple[list[str], list[PassedOver]]:
    """The wanted providers that this build of ONNX Runtime has, in their order, and those that it has not."""
    usable: list[str] = []
    missing = []
    for name in wanted:
        if name == AUTO:
            usable += [found for found in _AUTO if found in available and found not in usable]
        elif name not in available:
            missing.append(PassedOver(name, "not in this build of ONNX Runtime"))
        elif name not in usable:
            usable.append(name)
    return usable, missing
