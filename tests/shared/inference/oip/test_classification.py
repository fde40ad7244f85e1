"""Classes of an output: Triton's texts, its order, and labels where they fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sensorium.oip.v2 import inference_pb2 as pb

from shared.inference.datatypes import decode_raw
from shared.inference.manifest import Tensor
from shared.inference.oip.classification import classify, has_labels
from tests.shared.inference.graphs import identity, linear, write_model
from tests.shared.inference.oip.served import get_violations, line, served, tensor, wanted
from tests.support.waiting import within


def texts(datatype: str, values: object, count: int, labels: tuple[str, ...] = (), batched: bool = True):
    dtype = {"BF16": np.uint16, "FP16": np.float16}.get(datatype, datatype.lower().replace("fp", "float"))
    return classify(datatype, np.array(values, dtype), count, labels, batched=batched).tolist()


def test_the_highest_go_first_as_score_and_index() -> None:
    assert texts("FP32", [[0.25, 4, -1], [7, 8, 9]], 2) == [
        ["4.000000:1", "0.250000:0"],
        ["9.000000:2", "8.000000:1"],
    ]
    assert texts("FP64", [[1e-9, 1e20]], 9) == [["100000000000000000000.000000:1", "0.000000:0"]]
    assert texts("FP16", [[0.5, 65504]], 1) == [["65504.000000:1"]]
    # 1.0 and -2.0 by their bits.
    assert texts("BF16", [[0xC000, 0x3F80]], 2) == [["1.000000:1", "-2.000000:0"]]


def test_equal_scores_keep_their_order_and_what_is_no_number_goes_last() -> None:
    assert texts("FP32", [[1, 2, 2, 1]], 3) == [["2.000000:1", "2.000000:2", "1.000000:0"]]
    assert texts("UINT8", [[3, 255, 255, 0]], 4) == [["255:1", "255:2", "3:0", "0:3"]]
    assert texts("INT64", [[-(2**63), 2**63 - 1, 0]], 3) == [
        [f"{2**63 - 1}:1", "0:2", f"{-(2**63)}:0"],
    ]
    assert texts("UINT64", [[2**64 - 1, 1]], 1) == [[f"{2**64 - 1}:0"]]
    assert texts("FP32", [[float("nan"), -float("inf"), float("inf")]], 3) == [["inf:2", "-inf:1", "nan:0"]]


def test_labels_are_used_where_a_row_has_as_many_values() -> None:
    labels = ("cat", "a dog: big", "")
    assert texts("FP32", [[1, 3, 2]], 3, labels) == [
        ["3.000000:1:a dog: big", "2.000000:2:", "1.000000:0:cat"]
    ]
    assert texts("FP32", [[1, 3]], 1, labels) == [["3.000000:1"]]


def test_rows_are_flat_and_without_a_batch_axis_there_is_one() -> None:
    assert texts("INT32", [[[1, 2], [3, 4]]], 2) == [["4:3", "3:2"]]
    assert texts("INT32", [[1, 2], [3, 4]], 2, batched=False) == ["4:3", "3:2"]
    assert texts("INT32", 5, 2, batched=False) == ["5:0"]
    assert texts("INT32", np.zeros((2, 0)), 2) == [[], []]


def test_which_outputs_have_labels() -> None:
    labels = ("one", "two")
    assert has_labels(Tensor("y", "FP32", (-1, 2)), labels, batched=True)
    assert has_labels(Tensor("y", "FP32", (-1, 1, 2)), labels, batched=True)
    assert not has_labels(Tensor("y", "FP32", (-1, -1)), labels, batched=True)
    assert not has_labels(Tensor("y", "FP32", (-1, 2)), labels, batched=False)
    assert not has_labels(Tensor("y", "FP32", (-1, 2)), (), batched=True)


async def test_a_call_asks_for_classes(tmp_path: Path, front: str) -> None:
    write_model(tmp_path, "two", linear())
    write_model(tmp_path, "same", identity("FP32"))
    write_model(tmp_path, "text", identity("BYTES"))
    write_model(tmp_path, "truth", identity("BOOL"))
    x = np.array([[0.5, 0.25]], np.float32)
    three = pb.InferParameter(int64_param=3)
    async with served(tmp_path, front) as oip:
        reply = await oip.infer(**line(rows=2, outputs=[wanted("y", classification=three)]))
        (output,) = reply.outputs
        assert (output.datatype, list(output.shape)) == ("BYTES", [2, 3])
        first, second = decode_raw("BYTES", [2, 3], reply.raw_output_contents[0]).tolist()
        assert first == second
        assert len({text.partition(":")[2] for text in first}) == 3
        # The artifact's labels are two: they name the classes of outputs of two values a row.
        asked = {
            "model_name": "same",
            "inputs": [tensor("x", x, typed=True)],
            "outputs": [wanted("y", classification=three)],
        }
        reply = await oip.infer(**asked)
        assert list(reply.outputs[0].contents.bytes_contents) == [b"0.500000:0:one", b"0.250000:1:two"]
        for model, array, datatype in (
            ("text", np.array([["a"]], object), "BYTES"),
            ("truth", np.array([[True]]), "BOOL"),
        ):
            violations = await get_violations(
                oip,
                model_name=model,
                inputs=[tensor("x", array, datatype, typed=True)],
                outputs=[wanted("y", classification=three)],
            )
            said = violations['outputs[0].parameters["classification"]']
            assert f"expected an output of numbers, got {datatype}" in said
        large = np.arange(40_000, dtype=np.float32)[None]
        reply = await oip.infer(
            model_name="same",
            inputs=[tensor("x", large)],
            raw_input_contents=[large.tobytes()],
            outputs=[wanted("y", classification=three)],
        )
        (best, *_) = decode_raw("BYTES", [1, 3], reply.raw_output_contents[0])[0]
        assert best == "39999.000000:39999"
        config = await within(oip.stub.ModelConfig(pb.ModelConfigRequest(name="same")))
        # Its axis is of any length.
        assert config.config.output[0].label_filename == ""


@pytest.mark.parametrize("count", [1, 2**40])
async def test_more_classes_than_there_are_cost_nothing(tmp_path: Path, count: int) -> None:
    async with served(tmp_path) as oip:
        asked = wanted("y", classification=pb.InferParameter(int64_param=count))
        reply = await oip.infer(**line(outputs=[asked]))
        assert list(reply.outputs[0].shape) == [1, min(count, 4)]
