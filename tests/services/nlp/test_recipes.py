"""MiniLM's recipe: its artifact answers as the published graph does, and no text's answer depends on another's."""

import json
from collections.abc import Callable, Mapping

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, load_from_string
from tokenizers import Tokenizer

from services.nlp.models import minilm
from shared.inference.artifact import Draft

PARAPHRASES = [
    ("The cat sits outside.", "A feline is sitting outdoors."),
    ("How do I reset my password?", "I forgot my login credentials and need to change them."),
    ("The weather is lovely today.", "It is so sunny and pleasant outside."),
    ("He drove his car to the office.", "The man commuted to work by automobile."),
    ("The company's profits rose sharply.", "Earnings at the firm increased a lot."),
]

Embed = Callable[..., NDArray[np.float32]]


def open_session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def published(members: Callable[[str, str], Mapping[str, bytes]]) -> Mapping[str, bytes]:
    return members("nlp", "minilm")


@pytest.fixture(scope="module")
def draft(published: Mapping[str, bytes]) -> Draft:
    return minilm.build(published)


@pytest.fixture(scope="module")
def session(draft: Draft) -> onnxruntime.InferenceSession:
    return open_session(draft.graphs["model"].content)


@pytest.fixture(scope="module")
def tokenizer(draft: Draft) -> Tokenizer:
    return Tokenizer.from_str(draft.assets["tokenizer"][1].decode())


@pytest.fixture(scope="module")
def embed(session: onnxruntime.InferenceSession, tokenizer: Tokenizer) -> Embed:
    def run(*texts: str, length: int = 0) -> NDArray[np.float32]:
        (answer,) = session.run(None, pad([tokenizer.encode(text).ids for text in texts], length))
        return np.asarray(answer)

    return run


def pad(rows: list[list[int]], length: int = 0) -> dict[str, NDArray[np.int64]]:
    ids = np.zeros((len(rows), max(length, *map(len, rows))), np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
    return {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)}


def test_signature_is_the_graphs(draft: Draft, session: onnxruntime.InferenceSession) -> None:
    graph = draft.graphs["model"]
    assert [tensor.name for tensor in graph.inputs] == [value.name for value in session.get_inputs()]
    assert [tensor.name for tensor in graph.outputs] == [value.name for value in session.get_outputs()]


def test_golden_reproduces(draft: Draft, session: onnxruntime.InferenceSession) -> None:
    feeds = {name: draft.golden[f"model/in/{name}"] for name in ("input_ids", "attention_mask")}
    np.testing.assert_allclose(session.run(None, feeds)[0], draft.golden["model/out/embedding"], atol=1e-5)


def test_equals_the_published_graph_pooled_by_numpy(
    published: Mapping[str, bytes], session: onnxruntime.InferenceSession, tokenizer: Tokenizer
) -> None:
    feeds = pad([tokenizer.encode(text).ids for pair in PARAPHRASES for text in pair])
    original = open_session(published[minilm.GRAPH_MEMBER])
    (hidden,) = original.run(None, feeds | {"token_type_ids": np.zeros_like(feeds["input_ids"])})
    weight = feeds["attention_mask"][:, :, None]
    mean = (hidden * weight).sum(axis=1) / weight.sum(axis=1)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(session.run(None, feeds)[0], expected, atol=1e-5)


def test_paraphrases_are_nearer_than_strangers(embed: Embed) -> None:
    similar = embed(*[one for one, _ in PARAPHRASES]) @ embed(*[other for _, other in PARAPHRASES]).T
    strangers = similar[~np.eye(len(PARAPHRASES), dtype=bool)]
    assert similar.diagonal().min() > 0.5
    assert strangers.max() < 0.24


def test_an_answer_depends_on_neither_batch_mates_nor_padding(embed: Embed) -> None:
    words = ["the", "cat", "river", "engine", "quantum", "banana", "sings", "slowly", "above", "policy"]
    rng = np.random.default_rng(11)
    texts = [" ".join(rng.choice(words, count)) for count in (1, 3, 20, 90, 200)]
    together, padded = embed(*texts), embed(*texts, length=256)
    for index, text in enumerate(texts):
        alone = embed(text)[0]
        np.testing.assert_allclose(together[index], alone, atol=1e-5)
        np.testing.assert_allclose(padded[index], alone, atol=1e-5)


def test_a_row_without_tokens_is_finite(session: onnxruntime.InferenceSession) -> None:
    empty = np.zeros((1, 4), np.int64)
    assert np.isfinite(session.run(None, {"input_ids": empty, "attention_mask": empty})[0]).all()


def test_tokenizer_neither_cuts_nor_pads(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("word " * 600).ids) == 602
    assert tokenizer.encode("Hello").ids == [101, 7592, 102]


def test_a_foreign_graph_is_refused(published: Mapping[str, bytes]) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "other", [value], [other])
    foreign = helper.make_model(graph).SerializeToString()
    with pytest.raises(ValueError, match="expected BERT's three inputs"):
        minilm.build({**published, minilm.GRAPH_MEMBER: foreign})


def test_activation_quantisation_is_refused(published: Mapping[str, bytes]) -> None:
    model = load_from_string(published[minilm.GRAPH_MEMBER])
    outputs = ["quantized", "scale", "zero"]
    model.graph.node.append(
        helper.make_node("DynamicQuantizeLinear", ["last_hidden_state"], outputs, name="bad")
    )
    with pytest.raises(ValueError, match=r"DynamicQuantizeLinear in \['bad'\]"):
        minilm.build({**published, minilm.GRAPH_MEMBER: model.SerializeToString()})


@pytest.mark.parametrize("content", [b"\xff", b"{", json.dumps({"version": "1.0"}).encode()])
def test_a_damaged_tokenizer_is_refused(published: Mapping[str, bytes], content: bytes) -> None:
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        minilm.build({**published, minilm.TOKENIZER_MEMBER: content})
