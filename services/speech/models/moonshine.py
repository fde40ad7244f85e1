"""Moonshine tiny's artifact: the published encoder and decoder, byte for byte, and its vocabulary.

Lives here: the two graphs' signatures and the constants of greedy decoding. Not here: the decoding loop and the
vocabulary's reading (`services.speech.pipeline`), the golden answers (`services.speech.training.export_moonshine`).

Both graphs quantise their activations while running, with one scale over a whole tensor: beside another clip, or with
padding, a clip would get a different answer. So max_batch_size is 0 and nothing is ever concatenated.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from shared.inference.artifact import Draft, GraphDraft, Tensor
from shared.inference.manifest import Batching, Cost

ENCODER_MEMBER = "moonshine_voice/assets/tiny-en/encoder_model.ort"
DECODER_MEMBER = "moonshine_voice/assets/tiny-en/decoder_model_merged.ort"
TOKENIZER_MEMBER = "moonshine_voice/assets/tiny-en/tokenizer.bin"

LAYERS, HEADS, HEAD_DIM = 6, 8, 36
WIDTH = HEADS * HEAD_DIM
VOCABULARY = 32_768

_PARTS = ("decoder.key", "decoder.value", "encoder.key", "encoder.value")
# The identifier that ONNX Runtime's own file format carries behind its first four bytes.
_ORT_MAGIC = b"ORTM"


def build(members: Mapping[str, bytes]) -> Draft:
    """Make the artifact from the package's members.

    Raises:
        ValueError: a member is not what the package published.
    """
    for member in (ENCODER_MEMBER, DECODER_MEMBER):
        if members[member][4:8] != _ORT_MAGIC:
            raise ValueError(f"{member}: expected ONNX Runtime's format, got {members[member][:8]!r}")
    _check_vocabulary(members[TOKENIZER_MEMBER])
    with np.load(Path(__file__).with_name("moonshine.golden.npz")) as stored:
        golden = {key: stored[key] for key in stored.files}
    cache = (-1, HEADS, -1, HEAD_DIM)
    past = tuple(Tensor(name, "FP32", cache) for name in cache_names("past_key_values"))
    present = tuple(Tensor(name, "FP32", cache) for name in cache_names("present"))
    # A golden far from rounding's reach is not to be had: a change of 1e-7 in the audio tips int8 roundings and moves
    # logits by .24, one of 1e-3 by 2, of a spread of 3.7. The golden's token leads by 3.8.
    tolerance = {"rtol": 0.05, "atol": 1.0}
    return Draft(
        graphs={
            "encode": GraphDraft(
                content=members[ENCODER_MEMBER],
                file="encode.ort",
                inputs=(
                    Tensor("input_values", "FP32", (-1, -1)),
                    Tensor("attention_mask", "INT64", (-1, -1)),
                ),
                outputs=(Tensor("last_hidden_state", "FP32", (-1, -1, WIDTH)),),
                max_batch_size=0,
                batching=Batching(cost=Cost(input="input_values", axes=(1,))),  # samples
            ),
            "decode": GraphDraft(
                content=members[DECODER_MEMBER],
                file="decode.ort",
                inputs=(
                    Tensor("encoder_attention_mask", "INT64", (-1, -1)),
                    Tensor("input_ids", "INT64", (-1, -1)),
                    Tensor("encoder_hidden_states", "FP32", (-1, -1, WIDTH)),
                    *past,
                    Tensor("use_cache_branch", "BOOL", (1,)),
                ),
                outputs=(Tensor("logits", "FP32", (-1, -1, VOCABULARY)), *present),
                max_batch_size=0,
            ),
        },
        constants={
            "sample_rate": 16_000,
            "languages": ["en"],
            "bos_id": 1,
            "eos_id": 2,
            "layers": LAYERS,
            "heads": HEADS,
            "head_dim": HEAD_DIM,
            # The authors' bound on how fast anybody speaks, with room for one short word.
            "max_tokens_per_second": 6.5,
            "min_token_cap": 6,
            # A phrase of up to 8 tokens, 4 times in a row and over 12 tokens, is a loop and not speech; a card number
            # of eight fives is 8 tokens.
            "repeat_max_period": 8,
            "repeat_min_count": 4,
            "repeat_min_tokens": 12,
            # The encoder's convolutions need 895 samples; 0.1 s is the shortest that was tried.
            "min_samples": 1_600,
            # Attention's cost grows with the square: 10 s take 0.2 s, 20 s 0.6 s, 44 s 2.4 s on one thread.
            "max_stretch_s": 20.0,
            # Stretches that speech detection cuts tightly lose words, so neighbours stay together, with some room.
            "join_gap_s": 2.0,
            "context_s": 0.2,
        },
        preprocessing="audio-16k-mono/1",
        golden=golden,
        golden_made_by="ONNX Runtime 1.31.1 on the published files, x86-64 with VNNI",
        tolerance={"CPUExecutionProvider": tolerance, "CUDAExecutionProvider": tolerance},
        assets={"tokenizer": ("tokenizer.bin", members[TOKENIZER_MEMBER])},
    )


def cache_names(prefix: str) -> list[str]:
    """Return the decoder's 24 cache tensors in its own order: `<prefix>.<layer>.<decoder|encoder>.<key|value>`."""
    return [f"{prefix}.{layer}.{part}" for layer in range(LAYERS) for part in _PARTS]


def _check_vocabulary(content: bytes) -> None:
    """Walk the entries: a length (one byte, or two from 128 on: b0 - 128 + 128 * b1), then that many bytes."""
    position = entries = 0
    while position < len(content):
        length, position = content[position], position + 1
        if length >= 128 and position < len(content):
            length, position = length - 128 + 128 * content[position], position + 1
        position += length
        entries += 1
    if position != len(content) or entries != VOCABULARY:
        raise ValueError(
            f"{TOKENIZER_MEMBER}: expected {VOCABULARY} entries, got {entries} ending at byte {position} of {len(content)}"
        )
