r"""Make Moonshine's golden answers: the published files on 0.3 s of speech, as far as the first token.

    .venv-training/bin/python -m services.speech.training.export_moonshine encoder_model.ort decoder_model_merged.ort \
        beckett.wav

No torch is needed. The stretch was chosen for the lead of its first token over the second, 3.8 in logits, so that the
decision holds on processors that round int8 products differently.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
from numpy.typing import NDArray

from services.speech.models.moonshine import HEAD_DIM, HEADS, LAYERS, cache_names

START, SAMPLES = 16_000, 4_800
GOLDEN = Path(__file__).parents[1] / "models" / "moonshine.golden.npz"


def open_session(path: str) -> onnxruntime.InferenceSession:
    """Load a published file on one thread of the processor."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def main(encoder: str, decoder: str, clip: str) -> None:
    """Write the golden file beside the recipe; of the caches only the first and the last layer's, to keep it small."""
    speech, _ = soundfile.read(clip, dtype="float32")
    audio: NDArray[np.float32] = speech[None, START : START + SAMPLES]
    mask = np.ones(audio.shape, np.int64)
    encode = {"input_values": audio, "attention_mask": mask}
    (hidden,) = open_session(encoder).run(None, encode)

    decode = {
        "encoder_attention_mask": mask,
        "input_ids": np.array([[1]], np.int64),
        "encoder_hidden_states": hidden,
        **{name: np.zeros((1, HEADS, 0, HEAD_DIM), np.float32) for name in cache_names("past_key_values")},
        "use_cache_branch": np.array([False]),
    }
    session = open_session(decoder)
    names = [output.name for output in session.get_outputs()]
    answers = dict(zip(names, session.run(None, decode), strict=True))
    kept = {name for name in names if name == "logits" or name.split(".")[1] in ("0", str(LAYERS - 1))}
    np.savez_compressed(
        GOLDEN,
        **{f"encode/in/{name}": value for name, value in encode.items()},
        **{"encode/out/last_hidden_state": hidden},
        **{f"decode/in/{name}": value for name, value in decode.items()},
        **{f"decode/out/{name}": value for name, value in answers.items() if name in kept},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
