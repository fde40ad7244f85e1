"""Make Resemblyzer's weightless graph and its golden answers.

    .venv-training/bin/python -m services.speech.training.export_resemblyzer resemblyzer/pretrained.pt speech.wav other.wav

Needs torch 2.13 and librosa 0.11, which compute the golden answers as the published package does: librosa's mel
spectrogram of the padded clip, torch's LSTM on its frames. The graph is written by hand, node by node.
"""

import sys
from pathlib import Path

import librosa
import numpy as np
import onnx
import soundfile
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from services.speech.models import resemblyzer as recipe
from shared.inference.weights import strip_graph

MODELS = Path(__file__).parents[1] / "models"


class VoiceEncoder(torch.nn.Module):
    """The published network: mel frames [rows, 160, 40] in, unit-length voices [rows, 256] out."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(recipe.MEL_CHANNELS, recipe.DIMENSION, recipe.LAYERS, batch_first=True)
        self.linear = torch.nn.Linear(recipe.DIMENSION, recipe.DIMENSION)

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        """Return the last frame's state, projected, cut at zero and scaled to unit length."""
        _, (hidden, _) = self.lstm(mels)
        raw = torch.relu(self.linear(hidden[-1]))
        return raw / raw.norm(dim=1, keepdim=True)


def load(state_file: str) -> VoiceEncoder:
    """Return the published network with its published weights."""
    encoder = VoiceEncoder()
    encoder.load_state_dict(torch.load(state_file, map_location="cpu")["model_state"], strict=False)
    return encoder.eval()


def embed_partials(
    encoder: VoiceEncoder, clip: NDArray[np.float32], starts: list[int]
) -> NDArray[np.float32]:
    """Return the voices, float32 [partials, 256], of the partials that begin at these frames of a 16 kHz clip.

    The clip is padded with silence as far as the last partial reaches, as the package's embed_utterance does.
    """
    reach = (starts[-1] + recipe.PARTIAL_FRAMES) * recipe.HOP_SAMPLES
    padded = np.pad(clip, (0, max(0, reach - len(clip))))
    mel = librosa.feature.melspectrogram(
        y=padded,
        sr=recipe.SAMPLE_RATE,
        n_fft=recipe.WINDOW_SAMPLES,
        hop_length=recipe.HOP_SAMPLES,
        n_mels=recipe.MEL_CHANNELS,
    )
    frames = mel.astype(np.float32).T
    rows = np.stack([frames[start : start + recipe.PARTIAL_FRAMES] for start in starts])
    with torch.inference_mode():
        voices: NDArray[np.float32] = encoder(torch.from_numpy(rows)).numpy()
    return voices


def make_graph() -> onnx.ModelProto:
    """Return the graph with zeros for weights."""
    node, value, floats = helper.make_node, helper.make_tensor_value_info, TensorProto.FLOAT
    window, mels, size = recipe.WINDOW_SAMPLES, recipe.MEL_CHANNELS, recipe.DIMENSION
    weights = {"stft.basis": [window + 2, 1, window], "mel.filters": [mels, window // 2 + 1]}
    nodes = [
        node("Unsqueeze", ["audio", "one"], ["channel"]),
        node("Conv", ["channel", "stft.basis"], ["stft"], strides=[recipe.HOP_SAMPLES]),
        node("Mul", ["stft", "stft"], ["squares"]),
        node("Reshape", ["squares", "pairs"], ["parts"]),  # [rows, cosine or sine, 201, frames]
        node("ReduceSum", ["parts", "one"], ["power"], keepdims=0),
        node("MatMul", ["mel.filters", "power"], ["mel"]),
        node("Transpose", ["mel"], ["state.0"], perm=[2, 0, 1]),  # ONNX's LSTM walks its first axis
    ]
    for layer in range(recipe.LAYERS):
        names = [f"lstm.{layer}.{part}" for part in ("weight", "recurrence", "bias")]
        weights[names[0]] = [1, 4 * size, size if layer else mels]
        weights[names[1]], weights[names[2]] = [1, 4 * size, size], [1, 8 * size]
        outputs = [f"lstm.{layer}.all", f"lstm.{layer}.last"]
        nodes += [
            node("LSTM", [f"state.{layer}", *names], outputs, hidden_size=size),
            node("Squeeze", [outputs[0], "one"], [f"state.{layer + 1}"]),
        ]
    del nodes[-1]  # of the last layer only the last state counts
    weights["linear.weight"], weights["linear.bias"] = [size, size], [size]
    nodes += [
        node("Squeeze", [f"lstm.{recipe.LAYERS - 1}.last", "zero"], ["last"]),
        node("Gemm", ["last", "linear.weight", "linear.bias"], ["projected"], transB=1),
        node("Relu", ["projected"], ["raw"]),
        node("ReduceL2", ["raw"], ["norm"], axes=[1], keepdims=1),
        node("Max", ["norm", "norm_floor"], ["length"]),
        node("Div", ["raw", "length"], ["embedding"]),
    ]
    constants = {
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "pairs": np.array([0, 2, window // 2 + 1, -1], np.int64),
        "norm_floor": np.array(1e-6, np.float32),  # a row that ReLU emptied stays zero instead of NaN
    }
    initializers = [
        numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()
    ]
    initializers += [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(
        nodes,
        "resemblyzer",
        [value("audio", floats, ["rows", recipe.PARTIAL_SAMPLES])],
        [value("embedding", floats, ["rows", size])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    (MODELS / "resemblyzer.graph.onnx").write_bytes(strip_graph(model.SerializeToString(), weights.keys()))
    return model


def main(state_file: str, *clips: str) -> None:
    """Write the graph and the golden file beside the recipe: one partial of each clip."""
    make_graph()
    encoder = load(state_file)
    rows, voices = [], []
    for clip in clips:
        samples, rate = soundfile.read(clip, dtype="float32")
        if rate != recipe.SAMPLE_RATE:
            raise SystemExit(f"{clip}: expected {recipe.SAMPLE_RATE} Hz, got {rate}")
        # From 0.5 s on; 16-bit steps, so that the file compresses.
        part = samples[8_000 : 8_000 + recipe.PARTIAL_FRAMES * recipe.HOP_SAMPLES]
        before, after = recipe.CONTEXT_SAMPLES, recipe.PARTIAL_SAMPLES - recipe.CONTEXT_SAMPLES - len(part)
        rows.append(np.pad(part, (before, after)))
        voices.append(embed_partials(encoder, part, [0]))
    np.savez_compressed(
        MODELS / "resemblyzer.golden.npz",
        **{"model/in/audio": np.stack(rows), "model/out/embedding": np.concatenate(voices)},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
