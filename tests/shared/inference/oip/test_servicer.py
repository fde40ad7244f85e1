"""The Open Inference Protocol over real channels: every datatype both ways, every mistake by its field."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from sensorium.oip.v2 import inference_pb2 as pb
from sensorium.oip.v2 import inference_pb2_grpc as pb_grpc
from sensorium.oip.v2 import model_config_pb2 as config_pb

from shared.inference.datatypes import (
    CONTENTS_FIELDS,
    NUMPY_TYPES,
    decode_contents,
    decode_raw,
    encode_raw,
)
from shared.inference.oip.servicer import InferenceServicer
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from tests.shared.inference.graphs import WEIGHTS, identity, linear, write_model
from tests.shared.inference.oip.served import TIMEOUT_S, Oip, get_violations, line, served, tensor, wanted
from tests.support.serving import get_details, get_status, serving
from tests.support.signing import UNSIGNED
from tests.support.waiting import within


@pytest.fixture
async def oip(tmp_path: Path) -> AsyncIterator[Oip]:
    async with served(tmp_path) as running:
        yield running


async def test_a_call_is_answered_on_both_fronts(tmp_path: Path, front: str) -> None:
    async with served(tmp_path, front) as oip:
        for name in ("line", "test/line"):
            reply = await oip.infer(**line(rows=2, model_name=name, id="seven"))
            assert (reply.model_name, reply.model_version, reply.id) == (name, "1", "seven")
            (output,) = reply.outputs
            assert (output.name, output.datatype, list(output.shape)) == ("y", "FP32", [2, 4])
            answer = np.frombuffer(reply.raw_output_contents[0], np.float32).reshape(2, 4)
            np.testing.assert_array_equal(answer, np.ones((2, 16)) @ WEIGHTS)


SAMPLES: dict[str, Any] = {
    "BOOL": [True, False],
    "FP16": [1.5, float("nan")],
    # Bits: 1.0 and what is no number.
    "BF16": [0x3F80, 0x7FC0],
    "FP32": [float("nan"), -float("inf")],
    "FP64": [1e300, float("nan")],
    "BYTES": ["", "ünï\0cødé"],
    **{
        name: [np.iinfo(dtype).min, np.iinfo(dtype).max]
        for name, dtype in NUMPY_TYPES.items()
        if dtype.kind in "iu" and name != "BF16"
    },
}


async def test_every_datatype_goes_both_ways(tmp_path: Path) -> None:
    for datatype in NUMPY_TYPES:
        write_model(tmp_path, f"same-{datatype}", identity(datatype))
    async with served(tmp_path) as oip:
        for datatype, dtype in NUMPY_TYPES.items():
            array = np.array([SAMPLES[datatype]] * 2, dtype=dtype)
            raw = encode_raw(datatype, array)
            reply = await oip.infer(
                model_name=f"same-{datatype}",
                inputs=[tensor("x", array, datatype)],
                raw_input_contents=[raw],
            )
            assert list(reply.raw_output_contents) == [raw], datatype
            assert reply.outputs[0].datatype == datatype
            assert not reply.outputs[0].HasField("contents")
            back = decode_raw(datatype, reply.outputs[0].shape, reply.raw_output_contents[0])
            np.testing.assert_array_equal(back, array)
            if datatype not in CONTENTS_FIELDS:
                continue
            reply = await oip.infer(
                model_name=f"same-{datatype}", inputs=[tensor("x", array, datatype, typed=True)]
            )
            assert not reply.raw_output_contents
            back = decode_contents(datatype, reply.outputs[0].shape, reply.outputs[0].contents)
            np.testing.assert_array_equal(back, array)


async def test_large_typed_and_text_tensors_are_read_off_the_loop(tmp_path: Path) -> None:
    write_model(tmp_path, "text", identity("BYTES"))
    write_model(tmp_path, "numbers", identity("FP32"))
    async with served(tmp_path) as oip:
        text = np.full((1, 20_000), "twelve bytes", dtype=object)
        numbers = np.arange(100_000, dtype=np.float32)[None]
        for model, array, datatype in (("text", text, "BYTES"), ("numbers", numbers, "FP32")):
            reply = await oip.infer(model_name=model, inputs=[tensor("x", array, datatype, typed=True)])
            back = decode_contents(datatype, reply.outputs[0].shape, reply.outputs[0].contents)
            np.testing.assert_array_equal(back, array)


async def test_large_raw_tensors_are_read_wherever_they_lie(tmp_path: Path, front: str) -> None:
    write_model(tmp_path, "numbers", identity("FP32"))
    numbers = np.arange(20_000, dtype=np.float32)[None]
    async with served(tmp_path, front) as oip:
        for length in range(5):
            reply = await oip.infer(
                model_name="numbers",
                id="i" * length,
                inputs=[tensor("x", numbers)],
                raw_input_contents=[numbers.tobytes()],
            )
            assert reply.raw_output_contents[0] == numbers.tobytes()
            assert reply.id == "i" * length
        violations = await get_violations(
            oip, model_name="numbers", inputs=[tensor("x", numbers)], raw_input_contents=[bytes(79_999)]
        )
        assert "expected 80000 bytes" in violations["raw_input_contents[0]"]


async def test_generated_registration_works_as_well(tmp_path: Path) -> None:
    write_model(tmp_path, "numbers", identity("FP32"))
    repository = Repository(tmp_path, "test", InferenceSettings(signature=UNSIGNED, intra_op_threads=1), {})
    await within(repository.load_all())
    servicer = InferenceServicer(repository)
    numbers = np.arange(20_000, dtype=np.float32)[None]
    async with serving(
        lambda server: pb_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    ) as running:
        stub = pb_grpc.GRPCInferenceServiceStub(running.channel)
        oip = Oip(stub, repository, {}, running.channel, running.address, running.server)
        reply = await oip.infer(
            model_name="numbers", inputs=[tensor("x", numbers)], raw_input_contents=[numbers.tobytes()]
        )
        assert reply.raw_output_contents[0] == numbers.tobytes()
    await within(repository.close())


async def test_outputs_come_as_asked_for(oip: Oip) -> None:
    a = np.ones((1, 2), np.float32)
    request: dict[str, Any] = {
        "model_name": "pair.sums",
        # In another order than the graph's.
        "inputs": [tensor("b", 2 * a), tensor("a", a)],
        "raw_input_contents": [(2 * a).tobytes(), a.tobytes()],
    }
    reply = await oip.infer(**request)
    assert [output.name for output in reply.outputs] == ["sum", "difference"]
    both = [wanted("difference"), wanted("sum")]
    reply = await oip.infer(**request, outputs=both)
    assert [output.name for output in reply.outputs] == ["difference", "sum"]
    assert np.frombuffer(reply.raw_output_contents[0], np.float32).tolist() == [-1, -1]
    reply = await oip.infer(**request, outputs=both[:1])
    assert [output.name for output in reply.outputs] == ["difference"]


X = np.ones((1, 16), np.float32)
RAW = X.tobytes()
INT = pb.InferParameter(int64_param=3)
YES = pb.InferParameter(bool_param=True)
TEXT = pb.InferParameter(string_param="r")


@pytest.mark.parametrize(
    ("fields", "field", "description"),
    [
        ({"inputs": [tensor("z", X)]}, "inputs[0].name", '"x", got "z"'),
        (
            {"inputs": [tensor("x", X, "FP64")]},
            "inputs[0].datatype",
            'expected FP32 for "x", got "FP64"',
        ),
        ({"inputs": [tensor("x", X, "fp32")]}, "inputs[0].datatype", 'got "fp32"'),
        ({"inputs": [tensor("x", X[0])]}, "inputs[0].shape", 'expected [any, 16] for "x", got [16]'),
        ({"inputs": [tensor("x", X[:, :8])]}, "inputs[0].shape", "got [1, 8]"),
        (
            {"inputs": [pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[-1, 16])]},
            "inputs[0].shape",
            "got [-1, 16]",
        ),
        (
            {"inputs": [pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[2**62, 16])]},
            "raw_input_contents[0]",
            f"expected {2**68} bytes",
        ),
        ({"raw_input_contents": [RAW[:-1]]}, "raw_input_contents[0]", "expected 64 bytes (FP32 [1, 16])"),
        ({"raw_input_contents": [RAW + b"!"]}, "raw_input_contents[0]", "got 65 bytes"),
        ({"raw_input_contents": [b""]}, "raw_input_contents[0]", "got 0 bytes"),
        ({"raw_input_contents": [RAW, RAW]}, "raw_input_contents", "expected 1 entries"),
        ({"raw_input_contents": []}, "inputs[0].contents", "expected [1, 16] elements"),
        (
            {"inputs": [], "raw_input_contents": []},
            "inputs",
            'a tensor named "x" of FP32 [any, 16], got none',
        ),
        ({"inputs": [], "raw_input_contents": [RAW]}, "raw_input_contents", "expected 0 entries"),
        (
            {"inputs": [tensor("x", X), tensor("x", X)], "raw_input_contents": [RAW, RAW]},
            "inputs[1].name",
            "for the second time",
        ),
        (
            {"inputs": [tensor("x", X, typed=True)]},
            "inputs[0].contents",
            "expected none beside raw_input_contents",
        ),
        (
            {"inputs": [tensor("x", np.ones((9, 16)))], "raw_input_contents": [RAW * 9]},
            "inputs[0].shape",
            "at most 8 rows (test/line's max_batch_size)",
        ),
        (
            {"inputs": [tensor("x", np.ones((0, 16)))], "raw_input_contents": [b""]},
            "inputs[0].shape",
            "at least 1 row",
        ),
        (
            {"outputs": [pb.ModelInferRequest.InferRequestedOutputTensor(name="z")]},
            "outputs[0].name",
            'one of line\'s outputs "y", got "z"',
        ),
        (
            {"outputs": [pb.ModelInferRequest.InferRequestedOutputTensor(name="y")] * 2},
            "outputs[1].name",
            "for the second time",
        ),
        (
            {"outputs": [wanted("y", classification=pb.InferParameter(int64_param=-1))]},
            'outputs[0].parameters["classification"]',
            "a whole number >= 0 as int64_param, got -1",
        ),
        (
            {"outputs": [wanted("y", classification=TEXT)]},
            'outputs[0].parameters["classification"]',
            "got a string_param",
        ),
        (
            {"outputs": [wanted("y", shared_memory_region=TEXT)]},
            'outputs[0].parameters["shared_memory_region"]',
            "shared memory",
        ),
        (
            {"outputs": [wanted("y", binary_data=TEXT)]},
            'outputs[0].parameters["binary_data"]',
            "a truth value as bool_param",
        ),
        ({"parameters": {"sequence_start": YES}}, 'parameters["sequence_start"]', "sequences of calls"),
        ({"parameters": {"sequence_end": YES}}, 'parameters["sequence_end"]', "sequences of calls"),
        ({"parameters": {"sequence_id": TEXT}}, 'parameters["sequence_id"]', "sequences of calls"),
        ({"parameters": {"timeout": TEXT}}, 'parameters["timeout"]', "as int64_param, got a string_param"),
        (
            {"parameters": {"timeout": pb.InferParameter(int64_param=-5)}},
            'parameters["timeout"]',
            "a whole number >= 0 as int64_param, got -5",
        ),
        ({"parameters": {"priority": YES}}, 'parameters["priority"]', "got a bool_param"),
        ({"parameters": {"binary_data_output": TEXT}}, 'parameters["binary_data_output"]', "as bool_param"),
        ({"parameters": {"triton_other": YES}}, 'parameters["triton_other"]', "a known parameter"),
        ({"parameters": {"sequence_id": INT}}, 'parameters["sequence_id"]', "sequences of calls"),
        ({"parameters": {"colour": INT}}, 'parameters["colour"]', "a known parameter"),
        (
            {
                "inputs": [
                    pb.ModelInferRequest.InferInputTensor(
                        name="x",
                        datatype="FP32",
                        shape=[1, 16],
                        parameters={"shared_memory_region": pb.InferParameter(string_param="r")},
                    )
                ],
            },
            'inputs[0].parameters["shared_memory_region"]',
            "shared memory",
        ),
        ({"model_name": "pair"}, "model_name", "pair.picks, pair.sums"),
    ],
)
async def test_a_wrong_request_is_refused_by_field(
    oip: Oip, fields: dict[str, Any], field: str, description: str
) -> None:
    violations = await get_violations(oip, **line(**fields))
    assert description in violations[field]


async def test_several_mistakes_are_told_at_once(oip: Oip) -> None:
    violations = await get_violations(
        oip,
        model_name="pair.sums",
        inputs=[tensor("a", X, "INT8"), tensor("c", X)],
        outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="product")],
        parameters={"sequence_id": INT},
    )
    assert violations.keys() == {
        'parameters["sequence_id"]',
        "outputs[0].name",
        "inputs[0].datatype",
        "inputs[1].name",
    }


async def test_values_that_a_graph_cannot_process_are_the_callers_error(oip: Oip) -> None:
    violations = await get_violations(
        oip,
        model_name="pair.picks",
        inputs=[tensor("x", np.array([44]), "INT64")],
        raw_input_contents=[np.array([44]).tobytes()],
    )
    assert "idx=44" in violations["inputs"]


async def test_parameters_that_say_nothing_are_ignored(oip: Oip) -> None:
    zero, no, empty = (
        pb.InferParameter(int64_param=0),
        pb.InferParameter(bool_param=False),
        pb.InferParameter(string_param=""),
    )
    said = {"timeout": zero, "priority": pb.InferParameter(uint64_param=0), "sequence_id": zero}
    said |= {"sequence_start": no, "sequence_end": no, "colour": empty, "triton_other": pb.InferParameter()}
    await oip.infer(**line(parameters=said, outputs=[wanted("y", classification=zero)]))


async def test_a_timeout_brings_the_deadline_nearer(oip: Oip) -> None:
    await oip.infer(**line(parameters={"timeout": pb.InferParameter(uint64_param=5_000_000)}))
    with pytest.raises(grpc.aio.AioRpcError) as late:
        # A microsecond has passed before the request is read.
        await oip.infer(**line(parameters={"timeout": pb.InferParameter(int64_param=1)}))
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    # One far off changes nothing.
    await oip.infer(**line(parameters={"timeout": pb.InferParameter(uint64_param=2**64 - 1)}))


async def test_a_shared_memory_input_is_told_apart_from_a_missing_one(oip: Oip) -> None:
    a = np.ones((1, 2), np.float32)
    shared = tensor("b", a)
    shared.parameters["shared_memory_region"].string_param = "region"
    violations = await get_violations(
        oip, model_name="pair.sums", inputs=[tensor("a", a), shared], raw_input_contents=[a.tobytes()]
    )
    assert "shared memory" in violations['inputs[1].parameters["shared_memory_region"]']


async def test_the_reply_lies_as_it_is_asked_to(oip: Oip) -> None:
    no = pb.InferParameter(bool_param=False)
    typed = await oip.infer(**line(parameters={"binary_data_output": no}))
    assert not typed.raw_output_contents
    assert typed.outputs[0].contents.fp32_contents == list(WEIGHTS.sum(axis=0))
    raw = await oip.infer(
        model_name="line", inputs=[tensor("x", X, typed=True)], outputs=[wanted("y", binary_data=YES)]
    )
    assert np.frombuffer(raw.raw_output_contents[0], np.float32).tolist() == list(WEIGHTS.sum(axis=0))


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({"model_name": "lime"}, grpc.StatusCode.NOT_FOUND, "line, pair"),
        ({"model_name": ""}, grpc.StatusCode.NOT_FOUND, "line, pair"),
        ({"model_name": "line.model"}, grpc.StatusCode.NOT_FOUND, "line"),
        ({"model_version": "2"}, grpc.StatusCode.NOT_FOUND, "those that exist: 1"),
    ],
)
async def test_unknown_names_list_the_known_ones(
    oip: Oip, fields: dict[str, Any], code: grpc.StatusCode, text: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await oip.infer(**line(**fields))
    assert refused.value.code() == code
    assert text in str(refused.value.details())


async def test_readiness(tmp_path: Path) -> None:
    broken = write_model(tmp_path, "broken", linear())
    (broken.folder / "model.onnx").unlink()
    async with served(tmp_path, catalog={"far": {"version": "1"}}) as oip:
        stub = oip.stub
        assert (await stub.ServerLive(pb.ServerLiveRequest(), timeout=TIMEOUT_S)).live
        # A model that was pulled does not answer.
        assert not (await stub.ServerReady(pb.ServerReadyRequest(), timeout=TIMEOUT_S)).ready
        for name, version, ready in (
            ("line", "", True),
            ("test/line", "1", True),
            ("line", "2", False),
            ("pair", "", True),
            ("pair.sums", "", True),
            ("pair.products", "", False),
            ("broken", "", False),
            ("far", "", False),
            ("nobody", "", False),
        ):
            request = pb.ModelReadyRequest(name=name, version=version)
            assert (await stub.ModelReady(request, timeout=TIMEOUT_S)).ready is ready, name
        index = await stub.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=TIMEOUT_S)
        assert {(model.name, model.version, model.state) for model in index.models} == {
            ("broken", "1", "UNAVAILABLE"),
            ("far", "1", "UNAVAILABLE"),
            ("line", "1", "READY"),
            ("pair.picks", "1", "READY"),
            ("pair.sums", "1", "READY"),
        }
        reasons = {model.name: model.reason for model in index.models}
        assert "model.onnx is missing" in reasons["broken"]
        assert "sensorium models pull far" in reasons["far"]
        assert reasons["line"] == ""
        index = await stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True), timeout=TIMEOUT_S)
        assert {model.name for model in index.models} == {"line", "pair.picks", "pair.sums"}
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await oip.infer(**line(model_name="broken"))
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "RetryInfo" in get_details(get_status(refused.value))


async def test_the_server_is_ready_once_all_that_was_pulled_answers(oip: Oip) -> None:
    assert (await oip.stub.ServerReady(pb.ServerReadyRequest(), timeout=TIMEOUT_S)).ready


async def test_metadata_and_configuration(oip: Oip) -> None:
    server = await oip.stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=TIMEOUT_S)
    assert (server.name, server.version) == ("sensorium", "1.2.3")
    assert {"classification", "statistics", "model_repository"} <= set(server.extensions)
    request = pb.ModelMetadataRequest(name="test/pair.sums")
    metadata = await oip.stub.ModelMetadata(request, timeout=TIMEOUT_S)
    assert (metadata.name, list(metadata.versions)) == ("test/pair.sums", ["1"])
    assert metadata.platform == "onnxruntime_onnx"
    assert [(one.name, one.datatype, list(one.shape)) for one in metadata.inputs] == [
        ("a", "FP32", [-1, -1]),
        ("b", "FP32", [-1, -1]),
    ]
    assert [one.name for one in metadata.outputs] == ["sum", "difference"]
    config = (await oip.stub.ModelConfig(pb.ModelConfigRequest(name="line"), timeout=TIMEOUT_S)).config
    assert (config.name, config.max_batch_size, config.backend) == ("line", 8, "onnxruntime")
    assert config.input[0] == config_pb.ModelInput(name="x", data_type=config_pb.TYPE_FP32, dims=[16])
    assert config.output[0] == config_pb.ModelOutput(name="y", data_type=config_pb.TYPE_FP32, dims=[4])
    assert config.HasField("dynamic_batching")
    assert config.instance_group[0].kind == config_pb.ModelInstanceGroup.KIND_CPU
    assert config.parameters["digest"].string_value == oip.artifacts["line"].digest


async def test_statistics_count_as_triton_does(oip: Oip) -> None:
    for rows in (1, 3, 3):
        await oip.infer(**line(rows=rows))
    wrong = np.array([99])
    for _ in range(2):
        await get_violations(
            oip,
            model_name="pair.picks",
            inputs=[tensor("x", wrong, "INT64")],
            raw_input_contents=[wrong.tobytes()],
        )
    request = pb.ModelStatisticsRequest(name="test/line")
    (stats,) = (await oip.stub.ModelStatistics(request, timeout=TIMEOUT_S)).model_stats
    assert (stats.name, stats.version) == ("test/line", "1")
    assert (stats.inference_count, stats.execution_count) == (7, 3)
    assert stats.last_inference > 0
    sums = stats.inference_stats
    assert sums.success.count == sums.queue.count == sums.compute_infer.count == 3
    assert sums.fail.count == 0
    parts = (sums.queue, sums.compute_input, sums.compute_infer, sums.compute_output)
    assert 0 < sum(part.ns for part in parts) <= sums.success.ns
    assert {batch.batch_size: batch.compute_infer.count for batch in stats.batch_stats} == {1: 1, 3: 2}
    every = (await oip.stub.ModelStatistics(pb.ModelStatisticsRequest(), timeout=TIMEOUT_S)).model_stats
    failed = {stats.name: stats.inference_stats.fail.count for stats in every}
    assert failed == {"line": 0, "pair.sums": 0, "pair.picks": 2}
    both = pb.ModelStatisticsRequest(name="pair")
    names = [stats.name for stats in (await oip.stub.ModelStatistics(both, timeout=TIMEOUT_S)).model_stats]
    assert names == ["pair.sums", "pair.picks"]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await oip.stub.ModelStatistics(pb.ModelStatisticsRequest(name="line", version="9"), timeout=TIMEOUT_S)
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
