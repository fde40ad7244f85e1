"""The tuned MiniLM between training and its recipe: what ships of it, and the graph that the recipe fills.

Lives here: splitting weights, the merged network, naming a graph's tensors. Not here: measuring (`sentiment_card.py`),
writing files (`export_sentiment.py`), the torch-free way from the files to the artifact (`services.nlp.models.sentiment`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from services.nlp.models import sentiment
from services.nlp.training.model.classifier import MiniLmText
from services.nlp.training.model.minilm import load_minilm
from services.nlp.training.model.weights import load_learned
from shared.training.errors import TrainingError
from shared.training.export import to_onnx

_DYNAMIC = {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")}


def make_adapter(learned: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.generic]]:
    """What ships: changes by the layers' published names and words' weights in float16, the last layer in float32."""
    return {
        name.removeprefix("minilm."): value if name.startswith("head.") else value.astype(np.float16)
        for name, value in learned.items()
    }


def make_network(weights: sentiment.Weights) -> MiniLmText:
    """The network with merged weights, in evaluation mode."""
    own = {
        name: value for name, value in weights.items() if name.startswith("head.") or name == sentiment.WORDS
    }
    published = {name: value for name, value in weights.items() if name not in own}
    network = MiniLmText(load_minilm(published), len(sentiment.LABELS), tuned=0)
    load_learned(network, own)
    return network.eval()


def export(network: MiniLmText, weights: sentiment.Weights) -> bytes:
    """The network as a float32 graph whose weights bear their published names."""
    ids = torch.randint(5, 1000, (3, 7), generator=torch.Generator().manual_seed(0))
    example = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return name_weights(to_onnx(network, example, ["logits"], _DYNAMIC), weights)


def name_weights(content: bytes, weights: sentiment.Weights) -> bytes:
    """Give a graph's tensors the names of the weights they are, which exporting loses where it turns a matrix.

    Raises:
        TrainingError: a weight is not in the graph.
    """
    model = onnx.load_model_from_string(content)
    wanted = {_hold(name, value).tobytes(): name for name, value in weights.items()}
    renamed: dict[str, str] = {}
    for item in model.graph.initializer:
        if name := wanted.pop(numpy_helper.to_array(item).tobytes(), ""):
            renamed[item.name] = item.name = sentiment.name_in_graph(name)
    if wanted:
        missing = next(iter(wanted.values()))
        raise TrainingError(f"{missing}: expected among the graph's tensors, got none like it")
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    return bytes(model.SerializeToString(deterministic=True))


def round_back(weights: sentiment.Weights, tensors: Mapping[str, NDArray[np.generic]]) -> sentiment.Weights:
    """The weights as the int8 graph has them, for an answer of PyTorch's that the graph must give."""
    rounded = dict(weights)
    for name in weights:
        if f"{name}.int8" in tensors:
            product = tensors[f"{name}.int8"].astype(np.float32) * tensors[f"{name}.scale"]
            rounded[name] = product if name.startswith("embeddings.") else np.ascontiguousarray(product.T)
    return rounded


def _hold(name: str, value: NDArray[np.float32]) -> NDArray[np.float32]:
    """A weight as the exported graph holds it."""
    if name == sentiment.TYPES:
        return value[0]
    is_product = value.ndim == 2 and not name.startswith(("embeddings.", "head."))
    return np.ascontiguousarray(value.T) if is_product else value
