"""The served answer, alone and with as many threads, is the exported graph's bit for bit, for every model that ships.

A replica is started over a folder that holds the model and nothing else; each input is sent by itself as tensors, and the
same graph is run by ONNX Runtime as a program of one's own would.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from sensorium.oip.v2 import inference_pb2, inference_pb2_grpc

from shared.training.parity import read_kept
from shared.training.release import PARITY
from tests.benchmarks.replica import running_replica
from tests.benchmarks.report import Row
from tests.quality.place import Place
from tests.quality.rows import exact
from tests.quality.shipped import Shipped, list_shipped, rebuild
from tests.support.waiting import within

_INPUTS = 1000
_TYPES = {"int64": "INT64", "float32": "FP32", "uint8": "UINT8", "bool": "BOOL"}


def measure(seeds: Sequence[int], place: Place) -> Iterator[Row]:
    """Per model: how many served answers differ in any bit."""
    for shipped in list_shipped(place):
        inputs = _collect_inputs(rebuild(shipped, place).folder / PARITY, shipped)
        differing = asyncio.run(_count_differing(shipped, inputs))
        how = f"{len(inputs)} inputs one by one as tensors, one thread on both sides, ONNX Runtime {onnxruntime.__version__}"
        yield exact(f"served/{shipped.title}/differing", differing, "answers", how, at_most=0)


def _collect_inputs(parity: Path, shipped: Shipped) -> list[dict[str, NDArray[Any]]]:
    """Single items of held-out inputs; of the golden ones where no others were kept."""
    if parity.exists():
        batches = [inputs for inputs, _ in read_kept(parity)]
    else:
        golden = shipped.artifact.read_golden()
        batches = [{key.rsplit("/", 1)[1]: value for key, value in golden.items() if "/in/" in key}]
    singles = [
        {name: value[row : row + 1] for name, value in batch.items()}
        for batch in batches
        for row in range(len(next(iter(batch.values()))))
    ]
    return singles[:_INPUTS]


async def _count_differing(shipped: Shipped, inputs: list[dict[str, NDArray[Any]]]) -> int:
    artifact = shipped.artifact
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(artifact.graph_file("model")), options, providers=["CPUExecutionProvider"]
    )
    output = artifact.graphs["model"].outputs[0].name
    differing = 0
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(artifact.folder, Path(folder) / artifact.name / artifact.version)
        module = f"services.{artifact.service}"
        async with running_replica(
            module, artifact.service, models=Path(folder), inference__intra_op_threads="1"
        ) as replica:
            stub = inference_pb2_grpc.GRPCInferenceServiceStub(replica.channel)
            for item in inputs:
                expected = session.run([output], item)[0]
                if (await _ask(stub, artifact.name, output, item)) != expected.tobytes():
                    differing += 1
    return differing


async def _ask(
    stub: inference_pb2_grpc.GRPCInferenceServiceAsyncStub,
    model: str,
    output: str,
    item: Mapping[str, NDArray[Any]],
) -> bytes:
    """The raw bytes of one answer."""
    request = inference_pb2.ModelInferRequest(model_name=model)
    for name, value in item.items():
        request.inputs.add(name=name, datatype=_TYPES[str(value.dtype)], shape=value.shape)
        request.raw_input_contents.append(np.ascontiguousarray(value).tobytes())
    request.outputs.add(name=output)
    reply = await within(stub.ModelInfer(request), 30.0)
    return bytes(reply.raw_output_contents[0])
