"""All of an unmodified `tritonclient`'s gRPC surface, sync and aio; runs in that client's own environment.

Usage: python tritonclient_surface.py ADDRESS
    prints one JSON object: check -> "" or what went wrong. With SENSORIUM_TOKEN every call carries the token.

The server has `line` (16 numbers to 4, batches of 8), `slow` (as many turns of a loop as the number says), `pair` with the
graphs `sums` and `picks`, `classes` (numbers to themselves, two labels where a row has two), and `same-<datatype>`.
"""

import asyncio
import json
import os
import queue
import sys
import threading
import time
import traceback

import ml_dtypes
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

LIMIT_S = 20
LONG = 2**24
TYPES = [
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "BF16",
    "FP32",
]
TYPES += ["FP64", "BYTES"]
# The list that carries each datatype; FP16 and BF16 go raw only.
LISTS = {"BOOL": "bool_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents"}
LISTS |= {"INT64": "int64_contents", "UINT64": "uint64_contents"}
LISTS |= dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents")
LISTS |= dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents")

TOKEN = os.environ.get("SENSORIUM_TOKEN")
HEADERS = {"authorization": f"Bearer {TOKEN}"} if TOKEN else {}
CHECKS = []
# What a check that does not hold ends with.
FAILURES = (
    AssertionError,
    AttributeError,
    InferenceServerException,
    LookupError,
    TimeoutError,
    TypeError,
    ValueError,
    queue.Empty,
)


def check(function):
    CHECKS.append(function)
    return function


def make_array(datatype):
    if datatype == "BYTES":
        return np.array([["", "ünï\0cødé".encode()], [b"x" * 300, b"last"]], dtype=object)
    if datatype == "BOOL":
        return np.array([[True, False], [False, True]])
    if datatype == "BF16":
        return np.array([[1.5, -2.0], [0.0, 3e38]], dtype=ml_dtypes.bfloat16)
    dtype = np.dtype(triton_to_np_dtype(datatype))
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    return np.array([[limits.min, limits.max], [0, 1]], dtype=dtype)


def make_input(name, array, datatype):
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def line(rows=1):
    return [make_input("x", np.ones((rows, 16), np.float32), "FP32")]


def turns(number):
    return [make_input("x", np.array([number]), "INT64")]


def is_equal(datatype, sent, got):
    if datatype == "BYTES":
        return [x.encode() if isinstance(x, str) else x for x in sent.ravel()] == got.ravel().tolist()
    return got.dtype == sent.dtype and np.array_equal(got, sent)


def refused(status, text, function, *args, **kwargs):
    """The call ends with a status, and says a text."""
    caught = None
    try:
        function(*args, **kwargs)
    except InferenceServerException as error:
        caught = error
    assert caught is not None, f"{function.__name__} was not refused"
    expect(caught.status(), f"StatusCode.{status}")
    assert text in caught.message(), caught.message()


def expect(got, wanted):
    assert got == wanted, f"expected {wanted!r}, got {got!r}"


@check
def health(client):
    assert client.is_server_live(headers=HEADERS)
    assert client.is_server_ready(headers=HEADERS)
    assert client.is_model_ready("line", headers=HEADERS)
    assert client.is_model_ready("line", "1", headers=HEADERS)
    assert client.is_model_ready("pair.sums", headers=HEADERS)


@check
def server_metadata(client):
    said = client.get_server_metadata(headers=HEADERS, as_json=True)
    expect(said["name"], "sensorium")
    assert {"classification", "statistics", "model_repository", "model_configuration"} <= set(
        said["extensions"]
    )
    expect(client.get_server_metadata(headers=HEADERS).version, said["version"])


@check
def model_metadata(client):
    said = client.get_model_metadata("line", headers=HEADERS, as_json=True)
    expect((said["name"], said["versions"], said["platform"]), ("line", ["1"], "onnxruntime_onnx"))
    expect(said["inputs"], [{"name": "x", "datatype": "FP32", "shape": ["-1", "16"]}])
    refused("NOT_FOUND", "nobody", client.get_model_metadata, "nobody", headers=HEADERS)


@check
def model_config(client):
    said = client.get_model_config("line", headers=HEADERS, as_json=True)["config"]
    expect((said["max_batch_size"], said["backend"]), (8, "onnxruntime"))
    expect(said["input"], [{"name": "x", "data_type": "TYPE_FP32", "dims": ["16"]}])
    expect((said["instance_group"][0]["count"], said["instance_group"][0]["kind"]), (1, "KIND_CPU"))
    batching = said["dynamic_batching"]
    expect((batching["priority_levels"], batching["default_priority_level"]), ("2", "1"))
    assert batching["default_queue_policy"]["allow_timeout_override"]
    assert batching["default_queue_policy"]["max_queue_size"] > 0
    expect(said["version_policy"], {"latest": {"num_versions": 1}})
    assert said["parameters"]["digest"]["string_value"].startswith("sha256:")
    config = client.get_model_config("classes", headers=HEADERS).config
    expect(config.output[0].label_filename, "labels.txt")
    assert not config.response_cache.enable
    assert not config.model_transaction_policy.decoupled
    for datatype in TYPES:
        config = client.get_model_config(f"same-{datatype}", headers=HEADERS, as_json=True)["config"]
        wanted = "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"
        expect(config["input"][0]["data_type"], wanted)


@check
def every_datatype_raw(client):
    for datatype in TYPES:
        sent = make_array(datatype)
        inputs = [make_input("x", sent, datatype)]
        result = client.infer(f"same-{datatype}", inputs, headers=HEADERS, client_timeout=LIMIT_S)
        assert is_equal(datatype, sent, result.as_numpy("y")), datatype


@check
def every_datatype_typed(client):
    # By the client's own stubs: its classes send raw contents only.
    for datatype, name in LISTS.items():
        sent = make_array(datatype)
        request = service_pb2.ModelInferRequest(model_name=f"same-{datatype}", id="typed")
        tensor = request.inputs.add(name="x", datatype=datatype, shape=sent.shape)
        elements = [x.encode() if isinstance(x, str) else x for x in sent.ravel().tolist()]
        getattr(tensor.contents, name).extend(elements)
        metadata = tuple(HEADERS.items())
        reply = client._client_stub.ModelInfer(request, metadata=metadata, timeout=LIMIT_S)
        assert not reply.raw_output_contents, datatype
        expect(list(getattr(reply.outputs[0].contents, name)), elements)


@check
def wanted_outputs_ids_and_json(client):
    ones = np.ones((2, 3), np.float32)
    inputs = [make_input("a", ones, "FP32"), make_input("b", 2 * ones, "FP32")]
    result = client.infer(
        "pair.sums",
        inputs,
        request_id="seven",
        outputs=[triton.InferRequestedOutput("difference")],
        headers=HEADERS,
    )
    expect(result.get_response().id, "seven")
    expect(result.get_response(as_json=True)["model_version"], "1")
    expect(result.as_numpy("difference").tolist(), [[-1] * 3] * 2)
    assert result.as_numpy("sum") is None
    expect(result.get_output("difference").datatype, "FP32")
    result = client.infer("pair.sums", inputs, model_version="1", headers=HEADERS)
    expect(result.as_numpy("sum").tolist(), [[3] * 3] * 2)


@check
def classification(client):
    values = [make_input("x", np.array([[0.25, 0.75], [2, 1]], np.float32), "FP32")]
    outputs = [triton.InferRequestedOutput("y", class_count=5)]
    result = client.infer("classes", values, outputs=outputs, headers=HEADERS)
    expect(
        result.as_numpy("y").tolist(),
        [[b"0.750000:1:two", b"0.250000:0:one"], [b"2.000000:0:one", b"1.000000:1:two"]],
    )
    outputs = [triton.InferRequestedOutput("y", class_count=1)]
    result = client.infer("line", line(rows=3), outputs=outputs, headers=HEADERS)
    expect(result.as_numpy("y").shape, (3, 1))
    text = [make_input("x", np.array([["a"]], object), "BYTES")]
    refused(
        "INVALID_ARGUMENT",
        "an output of numbers",
        client.infer,
        "same-BYTES",
        text,
        outputs=outputs,
        headers=HEADERS,
    )


@check
def priority_and_timeout(client):
    for priority in (0, 1, 2, 9):
        client.infer("line", line(), priority=priority, timeout=5_000_000, headers=HEADERS)
    started_s = time.monotonic()
    refused("DEADLINE_EXCEEDED", "", client.infer, "slow", turns(LONG), timeout=200_000, headers=HEADERS)
    assert time.monotonic() - started_s < 3
    refused("DEADLINE_EXCEEDED", "", client.infer, "slow", turns(LONG), client_timeout=0.2, headers=HEADERS)
    # The next one does not wait for those.
    client.infer("slow", turns(1), client_timeout=LIMIT_S, headers=HEADERS)


@check
def what_is_wrong_is_told_by_field(client):
    infer = client.infer
    wrong = [make_input("z", np.ones((1, 16), np.float32), "FP32")]
    refused(
        "INVALID_ARGUMENT",
        'inputs[0].name: expected one of line\'s inputs "x", got "z"',
        infer,
        "line",
        wrong,
        headers=HEADERS,
    )
    refused("INVALID_ARGUMENT", "at most 8 rows", infer, "line", line(rows=9), headers=HEADERS)
    refused(
        "INVALID_ARGUMENT", "inputs[0].datatype: expected INT8", infer, "same-INT8", line(), headers=HEADERS
    )
    refused(
        "INVALID_ARGUMENT",
        'parameters["sequence_id"]',
        infer,
        "line",
        line(),
        sequence_id=5,
        sequence_start=True,
        headers=HEADERS,
    )
    refused(
        "INVALID_ARGUMENT",
        'parameters["sequence_id"]',
        infer,
        "line",
        line(),
        sequence_id="five",
        headers=HEADERS,
    )
    refused(
        "INVALID_ARGUMENT",
        'parameters["colour"]',
        infer,
        "line",
        line(),
        parameters={"colour": "red"},
        headers=HEADERS,
    )
    shared = triton.InferInput("x", [1, 16], "FP32")
    shared.set_shared_memory("region", 64)
    refused("INVALID_ARGUMENT", "shared memory", infer, "line", [shared], headers=HEADERS)
    output = triton.InferRequestedOutput("y")
    output.set_shared_memory("region", 64)
    refused("INVALID_ARGUMENT", "shared memory", infer, "line", line(), outputs=[output], headers=HEADERS)
    refused("NOT_FOUND", "nobody", infer, "nobody", line(), headers=HEADERS)
    refused("INVALID_ARGUMENT", "out of", infer, "pair.picks", turns(99), headers=HEADERS)


@check
def compression_is_refused_or_works(client):
    for algorithm in ("gzip", "deflate"):
        status = None
        try:
            result = client.infer(
                "line",
                line(),
                compression_algorithm=algorithm,
                headers=HEADERS,
                client_timeout=LIMIT_S,
            )
        except InferenceServerException as error:
            status = error.status()
        if status is None:
            expect(result.as_numpy("y").shape, (1, 4))
        else:
            assert status in ("StatusCode.UNIMPLEMENTED", "StatusCode.INVALID_ARGUMENT"), status


@check
def async_infer(client):
    done = queue.Queue()
    for number in range(100):
        client.async_infer(
            "line",
            line(rows=1 + number % 8),
            callback=lambda result, error, number=number: done.put((number, result, error)),
            request_id=str(number),
            headers=HEADERS,
        )
    for _ in range(100):
        number, result, error = done.get(timeout=LIMIT_S)
        assert error is None, error
        expect((result.get_response().id, result.as_numpy("y").shape), (str(number), (1 + number % 8, 4)))
    call = client.async_infer(
        "slow", turns(LONG), callback=lambda result, error: done.put(error), headers=HEADERS
    )
    call.cancel()
    expect(done.get(timeout=LIMIT_S).status(), "StatusCode.CANCELLED")


@check
def stream(client):
    done = queue.Queue()
    client.start_stream(lambda result, error: done.put((result, error)), headers=HEADERS)
    for number in range(200):
        client.async_stream_infer(
            "line",
            line(rows=1 + number % 8),
            request_id=str(number),
            enable_empty_final_response=number % 2 == 0,
            priority=number % 3,
            timeout=10_000_000,
        )
    for number in range(200):
        result, error = done.get(timeout=LIMIT_S)
        assert error is None, error
        expect((result.get_response().id, result.as_numpy("y").shape), (str(number), (1 + number % 8, 4)))
        assert result.get_response().parameters["triton_final_response"].bool_param
    client.stop_stream()
    assert done.empty()


@check
def stream_goes_on_after_an_error(client):
    done = queue.Queue()
    client.start_stream(
        lambda result, error: done.put((result, error)), stream_timeout=LIMIT_S, headers=HEADERS
    )
    client.async_stream_infer("line", line(), request_id="0")
    client.async_stream_infer("line", line(rows=9), request_id="1")
    client.async_stream_infer("line", line(), request_id="2", sequence_id=4)
    client.async_stream_infer("line", line(), request_id="3")
    told = [done.get(timeout=LIMIT_S) for _ in range(4)]
    expect([error is None for _, error in told], [True, False, False, True])
    assert "at most 8 rows" in told[1][1].message()
    assert 'parameters["sequence_id"]' in told[2][1].message()
    client.stop_stream()


@check
def stream_is_cancelled(client):
    done = queue.Queue()
    client.start_stream(lambda result, error: done.put((result, error)), headers=HEADERS)
    client.async_stream_infer("slow", turns(1), request_id="0")
    _, error = done.get(timeout=LIMIT_S)
    assert error is None, error
    for _ in range(20):
        client.async_stream_infer("slow", turns(LONG))
    client.stop_stream(cancel_requests=True)
    _, error = done.get(timeout=LIMIT_S)
    expect(error.status(), "StatusCode.CANCELLED")
    client.infer("slow", turns(1), client_timeout=LIMIT_S, headers=HEADERS)


@check
def stream_has_a_timeout(client):
    done = queue.Queue()
    client.start_stream(lambda result, error: done.put((result, error)), stream_timeout=0.3, headers=HEADERS)
    client.async_stream_infer("slow", turns(LONG))
    _, error = done.get(timeout=LIMIT_S)
    expect(error.status(), "StatusCode.DEADLINE_EXCEEDED")
    client.stop_stream()


@check
def repository(client):
    index = client.get_model_repository_index(headers=HEADERS, as_json=True)["models"]
    states = {entry["name"].rpartition("/")[2]: entry["state"] for entry in index}
    expect((states["line"], states["pair.sums"]), ("READY", "READY"))
    client.unload_model("pair", headers=HEADERS, unload_dependents=True)
    assert not client.is_model_ready("pair.sums", headers=HEADERS)
    client.load_model("pair", headers=HEADERS)
    assert client.is_model_ready("pair.sums", headers=HEADERS)
    client.infer("pair.picks", turns(3), headers=HEADERS)
    refused(
        "INVALID_ARGUMENT", 'parameters["config"]', client.load_model, "line", config="{}", headers=HEADERS
    )
    files = {"file:1/model.onnx": b"!"}
    refused(
        "INVALID_ARGUMENT",
        "parameters[",
        client.load_model,
        "line",
        config="{}",
        files=files,
        headers=HEADERS,
    )
    refused("NOT_FOUND", "nobody", client.load_model, "nobody", headers=HEADERS)
    refused("NOT_FOUND", "nobody", client.unload_model, "nobody", headers=HEADERS)


@check
def statistics(client):
    def count():
        stats = client.get_inference_statistics("classes", headers=HEADERS).model_stats[0]
        sums = stats.inference_stats
        return np.array([stats.inference_count, stats.execution_count, sums.success.count, sums.fail.count])

    before = count()
    for rows in (1, 3):
        value = np.ones((rows, 2), np.float32)
        client.infer("classes", [make_input("x", value, "FP32")], headers=HEADERS)
    expect((count() - before).tolist(), [4, 2, 2, 0])
    every = client.get_inference_statistics(headers=HEADERS, as_json=True)["model_stats"]
    assert any(stats["name"].endswith("classes") for stats in every)


@check
def log_settings(client):
    said = client.get_log_settings(headers=HEADERS, as_json=True)["settings"]
    expect(said["log_error"], {"bool_param": True})
    said = client.update_log_settings({"log_verbose_level": 1}, headers=HEADERS, as_json=True)["settings"]
    expect(said["log_verbose_level"], {"uint32_param": 1})
    client.update_log_settings({"log_verbose_level": 0}, headers=HEADERS)
    refused("INVALID_ARGUMENT", "log_file", client.update_log_settings, {"log_file": "x"}, headers=HEADERS)


@check
def not_offered(client):
    refused("UNIMPLEMENTED", "trace", client.get_trace_settings, headers=HEADERS)
    refused(
        "UNIMPLEMENTED", "trace", client.update_trace_settings, settings={"trace_rate": "1"}, headers=HEADERS
    )
    expect(len(client.get_system_shared_memory_status(headers=HEADERS).regions), 0)
    expect(len(client.get_cuda_shared_memory_status(headers=HEADERS).regions), 0)
    client.unregister_system_shared_memory(headers=HEADERS)
    client.unregister_cuda_shared_memory(headers=HEADERS)
    refused(
        "UNIMPLEMENTED", "shared memory", client.register_system_shared_memory, "r", "k", 64, headers=HEADERS
    )
    refused(
        "UNIMPLEMENTED",
        "shared memory",
        client.register_cuda_shared_memory,
        "r",
        b"aGFuZGxl",
        0,
        64,
        headers=HEADERS,
    )


@check
def many_callers(client):
    failures = []

    def call():
        try:
            for rows in range(1, 9):
                result = client.infer("line", line(rows), headers=HEADERS)
                expect(result.as_numpy("y").shape, (rows, 4))
        except (InferenceServerException, AssertionError) as error:
            failures.append(str(error))

    threads = [threading.Thread(target=call) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    expect(failures, [])


async def aio_infer(client):
    assert await client.is_server_live(headers=HEADERS)
    assert await client.is_model_ready("line", headers=HEADERS)
    results = await asyncio.gather(
        *(client.infer("line", line(rows), headers=HEADERS) for rows in range(1, 9))
    )
    expect([result.as_numpy("y").shape for result in results], [(rows, 4) for rows in range(1, 9)])
    config = await client.get_model_config("line", headers=HEADERS, as_json=True)
    expect(config["config"]["max_batch_size"], 8)
    stats = await client.get_inference_statistics("line", headers=HEADERS)
    assert stats.model_stats[0].inference_count >= 36
    task = asyncio.ensure_future(client.infer("slow", turns(LONG), headers=HEADERS))
    done, _ = await asyncio.wait({task}, timeout=0.05)
    assert not done
    task.cancel()
    await client.infer("slow", turns(1), client_timeout=LIMIT_S, headers=HEADERS)


async def aio_stream(client):
    async def requests():
        for number in range(100):
            # The tenth is wrong.
            yield {
                "model_name": "line",
                "inputs": line(9 if number == 10 else 1 + number % 8),
                "request_id": str(number),
            }

    number = 0
    async for result, error in client.stream_infer(requests(), headers=HEADERS, stream_timeout=LIMIT_S):
        if number == 10:
            assert "at most 8 rows" in error.message()
        else:
            expect((error, result.get_response().id), (None, str(number)))
        number += 1
    expect(number, 100)


async def aio_stream_is_cancelled(client):
    answered = asyncio.Event()

    async def requests():
        yield {"model_name": "slow", "inputs": turns(1), "request_id": "0"}
        # Not before: it would share a batch with those, and their time.
        await answered.wait()
        for _ in range(20):
            yield {"model_name": "slow", "inputs": turns(LONG)}
        # Neither side ends it.
        await asyncio.Event().wait()

    replies = client.stream_infer(requests(), headers=HEADERS)
    result, error = await asyncio.wait_for(anext(aiter(replies)), LIMIT_S)
    expect((error, result.get_response().id), (None, "0"))
    answered.set()
    assert replies.cancel()
    await client.infer("slow", turns(1), client_timeout=LIMIT_S, headers=HEADERS)


async def run_aio(address, said):
    async with triton_aio.InferenceServerClient(address) as client:
        for function in (aio_infer, aio_stream, aio_stream_is_cancelled):
            try:
                await asyncio.wait_for(function(client), 2 * LIMIT_S)
            except FAILURES:
                said[function.__name__] = traceback.format_exc()
            else:
                said[function.__name__] = ""


def main(address):
    said = {}
    for function in CHECKS:
        with triton.InferenceServerClient(address) as client:
            try:
                function(client)
            except FAILURES:
                said[function.__name__] = traceback.format_exc()
            else:
                said[function.__name__] = ""
    asyncio.run(run_aio(address, said))
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1])
