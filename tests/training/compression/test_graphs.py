"""Smaller forms of graphs: how far they are from the float32 one, how large, and that batch-mates change nothing."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor, nn

from shared.training.compression.calibrated import static_int8
from shared.training.compression.half import fp16
from shared.training.compression.weights import weight_only_int8
from shared.training.export import read_signature, to_onnx
from tests.training.export.networks import CASES, TEXT, Case, Words, draw_picture, draw_text, make


class Wide(nn.Module):
    """As Pictures, with weights enough that their bytes are what a file consists of."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10),
        )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


class Gated(nn.Module):
    """A GRU, whose gates ONNX has in another order: its weights are rearranged by nodes of the exported graph."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.GRU(1, 64, num_layers=2, batch_first=True)
        self.last = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.recurrent(image.flatten(1)[:, :40, None])[0].amax(1))


LARGE = {
    "gated": Case(Gated, draw_picture, None),
    "pictures": Case(Wide, draw_picture, None),
    "words": Case(lambda: Words("lstm", layers=2), draw_text, TEXT),
    "grams": CASES["grams"],
    "attention": CASES["attention"],
    "sound": CASES["sound"],
}
Batch = dict[str, NDArray[np.generic]]


def draw(name: str, rows: int, seed: int, length: int = 11) -> Batch:
    drawn = LARGE[name].draw(rows, length, torch.Generator().manual_seed(seed))
    return {key: value.numpy() for key, value in drawn.items()}


@functools.cache
def exported(name: str) -> bytes:
    case = LARGE[name]
    example = case.draw(3, 7, torch.Generator().manual_seed(0))
    return to_onnx(make(case), example, ["logits"], case.dynamic)


def run(content: bytes, batch: Batch) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(batch))[0]


def relative(content: bytes, name: str) -> float:
    """Root mean square error of the logits over their spread."""
    batch = draw(name, 200, seed=5)
    whole, small = run(exported(name), batch), run(content, batch)
    return float(np.sqrt(np.square(small - whole).mean()) / whole.std())


def operators(content: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_model_from_string(content).graph.node}


@pytest.mark.parametrize("name", LARGE)
def test_int8_weights_answer_nearly_the_same(name: str) -> None:
    content = weight_only_int8(exported(name), smallest=256)
    assert relative(content, name) < 0.05
    assert content != exported(name)
    assert read_signature(content) == read_signature(exported(name))
    assert not operators(content) & {"DynamicQuantizeLinear", "DequantizeLinear"}
    assert content == weight_only_int8(exported(name), smallest=256)


def test_int8_weights_take_a_quarter_of_the_bytes() -> None:
    assert len(exported("pictures")) / len(weight_only_int8(exported("pictures"))) > 3.7


def test_weights_that_the_exporter_rearranges_are_stored_as_they_are_taken() -> None:
    assert "Slice" in operators(exported("gated"))
    graph = onnx.load_model_from_string(weight_only_int8(exported("gated"))).graph
    stored = {item.name: item.data_type for item in graph.initializer}
    scaled = {
        node.output[0]: node.input[0].removesuffix(".whole") for node in graph.node if node.op_type == "Mul"
    }
    gates = [name for node in graph.node if node.op_type == "GRU" for name in node.input[1:3]]
    # The first layer's weights of one input stay: they are small.
    assert [stored.get(f"{scaled.get(name)}.int8") for name in gates].count(TensorProto.INT8) == 3


def test_small_tensors_and_those_that_are_to_be_kept_stay_exact() -> None:
    whole = onnx.load_model_from_string(exported("pictures"))
    large = [item.name for item in whole.graph.initializer if np.prod(item.dims) >= 1024]
    content = weight_only_int8(exported("pictures"), keep=large)
    assert np.array_equal(
        run(content, draw("pictures", 8, 1)), run(exported("pictures"), draw("pictures", 8, 1))
    )
    one = onnx.load_model_from_string(weight_only_int8(exported("pictures"), keep=large[:1]))
    kept = {item.name for item in one.graph.initializer if item.data_type == TensorProto.FLOAT}
    assert large[0] in kept
    assert large[1] not in kept


def test_each_output_has_a_scale_of_its_own() -> None:
    """A row a thousand times larger than the others must not coarsen them."""
    network = make(CASES["grams"])
    with torch.no_grad():
        network.table.weight[7] *= 1000
    example = CASES["grams"].draw(3, 7, torch.Generator().manual_seed(0))
    whole = to_onnx(network, example, ["logits"], CASES["grams"].dynamic)
    small = weight_only_int8(whole)
    batch = draw("grams", 64, seed=3)
    batch["ids"] = np.where(batch["ids"] == 7, 8, batch["ids"])
    assert np.abs(run(whole, batch) - run(small, batch)).max() < 0.02


def test_a_table_that_is_looked_up_stays_int8_while_it_runs() -> None:
    graph = onnx.load_model_from_string(weight_only_int8(exported("grams"))).graph
    types = {item.name: item.data_type for item in graph.initializer}
    looked_up = [
        types[node.input[0]] for node in graph.node if node.op_type == "Gather" and node.input[0] in types
    ]
    assert TensorProto.INT8 in looked_up


@pytest.mark.parametrize("name", ["pictures", "attention"])
@pytest.mark.parametrize("method", ["range", "percentile"])
def test_static_int8_answers_nearly_the_same(name: str, method: str) -> None:
    content = static_int8(exported(name), [draw(name, 32, seed) for seed in range(4)], method=method)
    assert relative(content, name) < 0.25
    assert "QuantizeLinear" in operators(content)
    assert "DynamicQuantizeLinear" not in operators(content)
    assert read_signature(content) == read_signature(exported(name))


def test_static_int8_is_the_same_every_time_and_smaller() -> None:
    first, second = (static_int8(exported("pictures"), [draw("pictures", 32, 1)]) for _ in range(2))
    assert first == second
    assert len(exported("pictures")) / len(first) > 3


@pytest.mark.parametrize("form", ["weights", "static"])
def test_an_answer_does_not_depend_on_its_batch_mates(form: str) -> None:
    content = (
        weight_only_int8(exported("pictures"))
        if form == "weights"
        else static_int8(exported("pictures"), [draw("pictures", 32, 1)])
    )
    alone = draw("pictures", 1, seed=9)
    loud = {
        key: np.concatenate([alone[key], value * 50]) for key, value in draw("pictures", 7, seed=2).items()
    }
    assert np.allclose(run(content, alone)[0], run(content, loud)[0], atol=1e-5)


@pytest.mark.parametrize("name", ["pictures", "attention", "grams"])
def test_fp16_answers_nearly_the_same_in_half_the_bytes(name: str) -> None:
    content = fp16(exported(name))
    assert relative(content, name) < 0.01
    assert read_signature(content) == read_signature(exported(name))
    assert len(content) < 0.75 * len(exported(name))


def test_what_static_int8_leaves_can_become_int8_weights() -> None:
    static = static_int8(exported("attention"), [draw("attention", 32, seed) for seed in range(2)])
    both = weight_only_int8(static)
    assert len(both) < 0.8 * len(static)
    assert relative(both, "attention") < 0.25


class Narrow(nn.Module):
    """A linear model over n-grams: a weight for each, and a narrow row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Embedding(5000, 4)
        self.register_buffer("weights", torch.rand(5000) * 8 + 1)

    def forward(self, ids: Tensor, counts: Tensor) -> Tensor:
        return (self.rows(ids) * (self.weights[ids] * counts).unsqueeze(-1)).sum(1)


def test_narrow_tables_and_vectors_that_are_looked_up_take_a_byte_a_value() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    example = {
        "ids": torch.randint(0, 5000, (3, 7), generator=generator),
        "counts": torch.rand(3, 7, generator=generator),
    }
    whole = to_onnx(Narrow(), example, ["logits"], CASES["grams"].dynamic)
    small = weight_only_int8(whole)
    assert len(whole) / len(small) > 3.7
    batch = {
        "ids": np.random.default_rng(0).integers(0, 5000, (64, 30)),
        "counts": np.random.default_rng(1).random((64, 30), np.float32),
    }
    expected, got = run(whole, batch), run(small, batch)
    assert np.sqrt(np.square(got - expected).mean()) / expected.std() < 0.02


def test_rows_of_zeros_and_of_tiny_values_stay_what_they_are() -> None:
    network = make(CASES["grams"])
    with torch.no_grad():
        network.table.weight[1] = 0
        network.table.weight[2] *= 1e-9
    example = CASES["grams"].draw(3, 7, torch.Generator().manual_seed(0))
    small = weight_only_int8(to_onnx(network, example, ["logits"], CASES["grams"].dynamic))
    batch = {"ids": np.array([[1, 2, 0]]), "counts": np.ones((1, 3), np.float32)}
    with torch.no_grad():
        expected = network.last.bias.numpy()
    assert np.allclose(run(small, batch)[0], expected, atol=1e-3)
