r"""Make Silero VAD's golden answers with the published streaming graph, one chunk a call.

    .venv-training/bin/python -m services.speech.training.export_silero_vad silero_vad/data/silero_vad_16k_op15.onnx \
        beckett.wav

Two rows: 1.5 s of speech, and noise that fades in. No torch is needed.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
from numpy.typing import NDArray

CHUNK, CONTEXT = 512, 64
SAMPLES = 24_000  # 1.5 s; no multiple of the chunk, so that the filling up is in the golden too
GOLDEN = Path(__file__).parents[1] / "models" / "silero_vad.golden.npz"


def stream(graph: str, audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probability of each chunk, float32 [clips, chunks], as the authors' OnnxWrapper calls the graph.

    `audio` is float32 [clips, samples] at 16 kHz.
    """
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    clips, samples = audio.shape
    padded = np.pad(audio, ((0, 0), (CONTEXT, -samples % CHUNK)))
    state = np.zeros((2, clips, 128), np.float32)
    answers = []
    for start in range(0, samples, CHUNK):
        chunk = padded[:, start : start + CONTEXT + CHUNK]
        output, state = session.run(None, {"input": chunk, "state": state, "sr": np.array(16_000, np.int64)})
        answers.append(output)
    return np.concatenate(answers, axis=1)


def make_audio(clip: str) -> NDArray[np.float32]:
    """Return speech and fading noise, float32 [2, samples]; 16-bit steps, so that the file compresses."""
    speech, _ = soundfile.read(clip, dtype="float32")
    noise = np.random.default_rng(7).normal(0, 0.05, SAMPLES) * np.linspace(0, 1, SAMPLES)
    rows = np.stack([speech[8_000 : 8_000 + SAMPLES], noise])
    rounded: NDArray[np.float32] = (np.round(rows * 32768) / 32768).astype(np.float32)
    return rounded


def main(graph: str, clip: str) -> None:
    """Write the golden file beside the recipe."""
    audio = make_audio(clip)
    np.savez_compressed(GOLDEN, **{"model/in/audio": audio, "model/out/probability": stream(graph, audio)})


if __name__ == "__main__":
    main(*sys.argv[1:])
