"""Every kind of network becomes a graph that takes any batch and length, answers as torch does, and stays the same."""

from __future__ import annotations

import copy
import functools
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from shared.inference.manifest import Tensor
from shared.training.export import ExportError, check_parity, fold_temperature, read_signature, to_onnx
from tests.training.export.networks import (
    CASES,
    GRAMS,
    LABELS,
    TEXT,
    Bag,
    Case,
    Unrolled,
    draw_grams,
    draw_text,
    make,
)

ROOT = Path(__file__).parents[3]


def draw(case: Case, rows: int, length: int, seed: int = 1) -> dict[str, torch.Tensor]:
    return case.draw(rows, length, torch.Generator().manual_seed(seed))


@functools.cache
def export_once(name: str) -> bytes:
    """Most tests only read the graph, and tracing takes a second or more."""
    return export(CASES[name])


def export(case: Case) -> bytes:
    return to_onnx(make(case), draw(case, 3, 7), ["logits"], case.dynamic)


@pytest.mark.parametrize("name", CASES)
def test_it_answers_as_torch_does_for_any_batch_and_length(name: str) -> None:
    case = CASES[name]
    batches = [
        {key: value.numpy() for key, value in draw(case, rows, length, seed).items()}
        for seed, (rows, length) in enumerate([(1, 1), (1, 9), (5, 3), (8, 30), (16, 7), (2, 100)])
    ]
    parity = check_parity(make(case), export_once(name), batches, at_least=33)
    assert parity.items == 33
    assert 0 <= parity.largest < 1e-5


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "attention", "grams"])
def test_a_row_answers_the_same_however_far_it_is_filled_up(name: str) -> None:
    case, network = CASES[name], make(CASES[name])
    alone = draw(case, 1, 6)
    filled = {key: torch.nn.functional.pad(value, (0, 20)) for key, value in alone.items()}
    with torch.no_grad():
        assert torch.allclose(network(**alone), network(**filled), atol=1e-6)
    content = export_once(name)
    batch = {key: torch.cat([value, value]).numpy() for key, value in filled.items()}
    check_parity(network, content, [batch], at_least=2, atol=1e-5, rtol=0)


def test_the_bytes_are_the_same_in_another_process_and_hold_no_path() -> None:
    names = ["grams", "lstm", "pictures"]
    code = (
        "import sys, hashlib; from tests.training.export.test_export import CASES, export; "
        "sys.stdout.write(' '.join(hashlib.sha256(export(CASES[name])).hexdigest() for name in sys.argv[1:]))"
    )
    environ = {**os.environ, "PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    other = subprocess.run(
        [sys.executable, "-c", code, *names],
        cwd=ROOT.parent,
        env=environ,
        check=True,
        capture_output=True,
        timeout=100,
    )
    exported = [export(CASES[name]) for name in names]
    assert other.stdout.decode().split() == [hashlib.sha256(content).hexdigest() for content in exported]
    for content in exported:
        assert str(ROOT).encode() not in content
        assert b"torch" not in content


def test_the_module_is_left_as_it_was() -> None:
    network = make(CASES["lstm"]).train()
    before = copy.deepcopy(network.state_dict())
    to_onnx(network, draw(CASES["lstm"], 3, 7), ["logits"], TEXT)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_the_signature_is_read_from_the_graph() -> None:
    inputs, outputs = read_signature(export_once("grams"))
    assert inputs == (Tensor("ids", "INT64", (-1, -1)), Tensor("counts", "FP32", (-1, -1)))
    assert outputs == (Tensor("logits", "FP32", (-1, LABELS)),)
    assert read_signature(export_once("pictures"))[0] == (Tensor("image", "FP32", (-1, 1, 28, 28)),)


def test_a_folded_temperature_divides_the_logits() -> None:
    case, network = CASES["grams"], make(CASES["grams"])
    inputs = draw(case, 4, 9)
    with torch.no_grad():
        before = network(**inputs)
        fold_temperature(network.last, 2.5)
        assert torch.allclose(network(**inputs), before / 2.5, atol=1e-6)


def test_recurrent_layers_become_one_node_each_that_reads_lengths() -> None:
    nodes = onnx.load_model_from_string(export_once("lstm")).graph.node
    layers = [node for node in nodes if node.op_type == "LSTM"]
    assert len(layers) == 2
    assert all(len(node.input) == 5 and node.input[4] for node in layers)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_a_recurrent_layer_gives_the_gradients_of_torchs_own(kind: str) -> None:
    case = CASES[kind]
    network = make(case).train()
    inputs = draw(case, 4, 6)
    network(**inputs).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_torchs_own_recurrent_layers_are_refused_with_what_to_take_instead() -> None:
    example = draw_text(3, 7, torch.Generator().manual_seed(0))
    with pytest.raises(ExportError, match="axis 'length': expected any length, it was fixed to 7"):
        to_onnx(Unrolled(), example, ["logits"], TEXT)


def test_an_embedding_bag_is_refused_with_what_to_take_instead() -> None:
    example = draw_grams(3, 7, torch.Generator().manual_seed(0))
    with pytest.raises(ExportError, match=r"nn\.Embedding and a weighted sum"):
        to_onnx(Bag(), example, ["logits"], GRAMS)


@pytest.mark.parametrize(
    ("rows", "length", "names", "reason"),
    [
        (1, 7, ("ids", "counts"), "ids: expected at least 2 along axis 0"),
        (3, 1, ("ids", "counts"), "ids: expected at least 2 along axis 1"),
        (3, 7, ("counts", "ids"), r"expected forward's parameters \['ids', 'counts'\]"),
    ],
)
def test_an_example_that_would_fix_an_axis_is_refused(
    rows: int, length: int, names: tuple[str, ...], reason: str
) -> None:
    example = draw_grams(rows, length, torch.Generator().manual_seed(0))
    with pytest.raises(ExportError, match=reason):
        to_onnx(make(CASES["grams"]), {name: example[name] for name in names}, ["logits"], GRAMS)


def test_unequal_axes_of_one_name_and_unknown_inputs_are_refused() -> None:
    network, example = make(CASES["grams"]), draw(CASES["grams"], 3, 7)
    with pytest.raises(ExportError, match="'length': expected one length, got 7, 5"):
        to_onnx(network, {**example, "counts": example["counts"][:, :5]}, ["logits"], GRAMS)
    with pytest.raises(ExportError, match=r"expected inputs .*'words'"):
        to_onnx(network, example, ["logits"], {"words": {0: "batch"}})
    with pytest.raises(ExportError, match="opset: expected 17 to 20, got 12"):
        to_onnx(network, example, ["logits"], GRAMS, opset=12)


@pytest.mark.parametrize("opset", [17, 20])
def test_other_opsets_answer_the_same(opset: int) -> None:
    case = CASES["attention"]
    content = to_onnx(make(case), draw(case, 3, 7), ["logits"], TEXT, opset=opset)
    assert onnx.load_model_from_string(content).opset_import[0].version == opset
    batch = {key: value.numpy() for key, value in draw(case, 8, 21).items()}
    check_parity(make(case), content, [batch], at_least=8)


def test_weights_lie_inside_as_float32() -> None:
    model = onnx.load_model_from_string(export_once("attention"))
    held = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    assert held["table.weight"].dtype == np.float32
    assert all(item.data_location == onnx.TensorProto.DEFAULT for item in model.graph.initializer)
