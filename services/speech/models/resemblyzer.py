"""Resemblyzer's artifact: its tensors, and the spectrogram's, filled into the committed weightless graph.

Lives here: reading the state file, the order of gates, the Fourier and mel matrices, the constants. Not here: cutting a
clip into partials (`services.speech.pipeline`), the graph's nodes and the reference answers
(`services.speech.training.export_resemblyzer`).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.inference.artifact import Draft, GraphDraft, Tensor
from shared.inference.weights import fill_graph, read_torch_tensors

MEMBER = "resemblyzer/pretrained.pt"

SAMPLE_RATE = 16_000
WINDOW_SAMPLES = 400  # 25 ms
HOP_SAMPLES = 160  # 10 ms
PARTIAL_FRAMES = 160  # 1.6 s: the length that the encoder was trained on
MEL_CHANNELS = 40
LAYERS = 3
DIMENSION = 256

# A frame is centred, so a partial hears half a window before its first sample and 40 samples past its last.
CONTEXT_SAMPLES = WINDOW_SAMPLES // 2
PARTIAL_SAMPLES = (PARTIAL_FRAMES - 1) * HOP_SAMPLES + WINDOW_SAMPLES


def build(members: Mapping[str, bytes]) -> Draft:
    """Make the artifact from the package's member.

    Raises:
        ValueError: the state file is damaged or not the published one.
    """
    here = Path(__file__)
    with np.load(here.with_name("resemblyzer.golden.npz")) as stored:
        golden = {key: stored[key] for key in stored.files}
    graph = fill_graph(here.with_name("resemblyzer.graph.onnx").read_bytes(), make_tensors(members[MEMBER]))
    return Draft(
        graphs={
            "model": GraphDraft(
                content=graph,
                file="model.onnx",
                inputs=(Tensor("audio", "FP32", (-1, PARTIAL_SAMPLES)),),
                outputs=(Tensor("embedding", "FP32", (-1, DIMENSION)),),
                max_batch_size=32,
            )
        },
        constants={
            "sample_rate": SAMPLE_RATE,
            "dimension": DIMENSION,
            "partial_samples": PARTIAL_SAMPLES,
            "context_samples": CONTEXT_SAMPLES,
            "hop_samples": HOP_SAMPLES,
            "partial_frames": PARTIAL_FRAMES,
            # The author's defaults: 1.3 partials a second, a last one with less than 3/4 of its audio is dropped.
            "frame_step": round(SAMPLE_RATE / 1.3 / HOP_SAMPLES),
            "min_coverage": 0.75,
            "target_dbfs": -30.0,
            "languages": ["und"],
        },
        preprocessing="audio-16k-mono-speech/1",
        golden=golden,
        golden_made_by="PyTorch 2.13.0 and librosa 0.11.0, on the published state file",
        tolerance={
            "CPUExecutionProvider": {"rtol": 1e-3, "atol": 1e-4},
            "CUDAExecutionProvider": {"rtol": 1e-2, "atol": 5e-3},
        },
    )


def make_tensors(content: bytes) -> dict[str, NDArray[np.generic]]:
    """Return what the weightless graph declares, by name.

    Raises:
        ValueError: `content` is not the published state file.
    """
    state = read_torch_tensors(content)
    tensors: dict[str, NDArray[np.generic]] = {"stft.basis": fourier_basis(), "mel.filters": mel_filters()}
    try:
        for layer in range(LAYERS):
            given, carried = (f"model_state.lstm.{kind}_{{}}_l{layer}" for kind in ("weight", "bias"))
            tensors[f"lstm.{layer}.weight"] = _reorder(state[given.format("ih")])[None]
            tensors[f"lstm.{layer}.recurrence"] = _reorder(state[given.format("hh")])[None]
            biases = [_reorder(state[carried.format(kind)]) for kind in ("ih", "hh")]
            tensors[f"lstm.{layer}.bias"] = np.concatenate(biases)[None]
        tensors["linear.weight"] = state["model_state.linear.weight"]
        tensors["linear.bias"] = state["model_state.linear.bias"]
    except KeyError as error:
        raise ValueError(f"{MEMBER}: expected a tensor {error}, got {sorted(state)[:8]} ...") from error
    return tensors


def fourier_basis() -> NDArray[np.float32]:
    """Return the windowed cosines, then sines, of a 400-point Fourier transform: float32 [402, 1, 400].

    The window is a periodic Hann, as librosa's `stft` uses.
    """
    time = np.arange(WINDOW_SAMPLES)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * time / WINDOW_SAMPLES)
    angle = 2 * np.pi * np.outer(np.arange(WINDOW_SAMPLES // 2 + 1), time) / WINDOW_SAMPLES
    basis = np.concatenate([np.cos(angle), np.sin(angle)]) * window
    return basis[:, None, :].astype(np.float32)


def mel_filters() -> NDArray[np.float32]:
    """Return triangles of equal area on Slaney's mel scale from 0 to 8 kHz: float32 [40, 201].

    The scale (Slaney, Auditory Toolbox, 1998) is linear up to 1 kHz, 200/3 Hz a mel, and logarithmic above, 27 mels
    for a factor of 6.4; `librosa.filters.mel` makes the same.
    """
    top = 15.0 + 27.0 * np.log(SAMPLE_RATE / 2 / 1000.0) / np.log(6.4)
    mels = np.linspace(0.0, top, MEL_CHANNELS + 2)
    linear = mels * 200.0 / 3.0
    edges = np.where(mels < 15.0, linear, 1000.0 * np.exp((mels - 15.0) * np.log(6.4) / 27.0))
    bins = np.linspace(0.0, SAMPLE_RATE / 2, WINDOW_SAMPLES // 2 + 1)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    area = 2.0 / (edges[2:] - edges[:-2])
    filters = np.maximum(0.0, np.minimum(rising, falling)) * area[:, None]
    return filters.astype(np.float32)


def _reorder(tensor: NDArray[np.generic]) -> NDArray[np.generic]:
    """Turn torch's gates (input, forget, cell, output) into ONNX's (input, output, forget, cell)."""
    if len(tensor) != 4 * DIMENSION:
        raise ValueError(f"{MEMBER}: expected {4 * DIMENSION} rows of LSTM gates, got {len(tensor)}")
    gate_i, gate_f, gate_c, gate_o = np.split(tensor, 4)
    return np.concatenate([gate_i, gate_o, gate_f, gate_c])
