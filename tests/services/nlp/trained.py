"""Small text classifiers that are trained while a test runs: naive Bayes on n-grams, in the form of the trained models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from services.nlp.pipeline.ngrams import NgramReader, NgramRule, hash_ngrams, make_row
from shared.inference.artifact import Artifact, Draft, GraphDraft, Tensor, write_artifact
from shared.inference.manifest import Batching, Cost, Pad

WORDS = NgramRule(word_orders=(1, 2))
LETTERS = NgramRule(character_orders=(1, 2, 3))

MOODS = {
    "negative": (
        "a dull, tired and lifeless film with a terrible script",
        "boring from beginning to end, the worst acting of the year",
        "bad jokes, bad pacing and an awful ending",
        "i hated every minute of this mess",
        "a clumsy, predictable and painfully slow bore",
        "not funny, not clever, just a waste of time",
    ),
    "positive": (
        "a wonderful, moving and funny film with a great script",
        "brilliant from beginning to end, the best acting of the year",
        "good jokes, lovely music and a perfect ending",
        "i loved every minute of this gem",
        "a clever, surprising and deeply touching story",
        "fresh, warm and beautiful, well worth your time",
    ),
}
LANGUAGES = {
    "en": (
        "all human beings are born free and equal in dignity and rights",
        "everyone has the right to life, liberty and security of person",
        "no one shall be held in slavery or servitude",
    ),
    "de": (
        "alle menschen sind frei und gleich an würde und rechten geboren",
        "jeder hat das recht auf leben, freiheit und sicherheit der person",
        "niemand darf in sklaverei oder leibeigenschaft gehalten werden",
    ),
    "fr": (
        "tous les êtres humains naissent libres et égaux en dignité et en droits",
        "tout individu a droit à la vie, à la liberté et à la sûreté de sa personne",
        "nul ne sera tenu en esclavage ni en servitude",
    ),
}


def train(
    models_dir: Path,
    name: str,
    task: str,
    texts: Mapping[str, Sequence[str]],
    rule: NgramRule,
    *,
    version: str = "1",
    **constants: Any,
) -> Artifact:
    """Train a classifier of `texts` by label, and write its artifact."""
    labels = list(texts)
    table = np.unique(np.concatenate([hash_ngrams(text, rule) for some in texts.values() for text in some]))
    content = table.astype("<u4").tobytes()
    reader = NgramReader(rule, content)
    counts = np.ones((len(labels), len(table)))
    for index, some in enumerate(texts.values()):
        for text in some:
            found = reader.read(text)
            assert found is not None
            counts[index, found.ids - 1] += found.counts
    weights = np.log(counts / counts.sum(axis=1, keepdims=True))
    weights -= weights.mean(axis=0)
    table_of_weights = np.zeros((len(table) + 1, len(labels)), np.float32)
    table_of_weights[1:] = weights.T
    example = make_row(reader.read(next(iter(texts.values()))[0]))  # type: ignore[arg-type]
    golden = {f"model/in/{key}": value for key, value in example.items()}
    golden["model/out/logits"] = np.einsum("bn,bnl->bl", example["counts"], table_of_weights[example["ids"]])
    draft = Draft(
        graphs={
            "model": GraphDraft(
                content=_make_graph(table_of_weights),
                file="model.onnx",
                inputs=(Tensor("ids", "INT64", (-1, -1)), Tensor("counts", "FP32", (-1, -1))),
                outputs=(Tensor("logits", "FP32", (-1, len(labels))),),
                max_batch_size=32,
                batching=Batching(
                    cost=Cost(input="ids", axes=(0, 1)), pad=Pad(axis=1, inputs={"ids": 0, "counts": 0})
                ),
            )
        },
        constants={"labels": labels, "ngrams": rule.model_dump(mode="json"), **constants},
        preprocessing="text-ngrams/1",
        golden=golden,
        golden_made_by="numpy",
        tolerance={"CPUExecutionProvider": {"rtol": 1e-4, "atol": 1e-4}},
        assets={"ngrams": ("ngrams.bin", content)},
    )
    entry = {
        "name": name,
        "service": "nlp",
        "version": version,
        "task": task,
        "license": "MIT",
        "description": "Trained by a test.",
    }
    return write_artifact(models_dir, entry, draft)


def _make_graph(weights: np.ndarray) -> bytes:
    nodes = [
        helper.make_node("Gather", ["weights", "ids"], ["found"]),
        helper.make_node("Unsqueeze", ["counts", "last"], ["factors"]),
        helper.make_node("Mul", ["found", "factors"], ["parts"]),
        helper.make_node("ReduceSum", ["parts", "middle"], ["logits"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "ngrams",
        [
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"]),
            helper.make_tensor_value_info("counts", TensorProto.FLOAT, ["batch", "length"]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", weights.shape[1]])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([2], np.int64), "last"),
            numpy_helper.from_array(np.array([1], np.int64), "middle"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString(deterministic=True))
