"""A repository of small models behind the Open Inference Protocol, and requests to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from sensorium.oip.v2 import inference_pb2 as pb
from sensorium.oip.v2 import inference_pb2_grpc as pb_grpc

from shared.inference.artifact import Artifact
from shared.inference.datatypes import encode_contents
from shared.inference.oip.message import add_to_server
from shared.inference.oip.servicer import InferenceServicer
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from shared.rpc.server import Server
from tests.shared.inference.graphs import linear, picky, two_of_each, write_model
from tests.support.serving import get_details, get_status, serving
from tests.support.signing import UNSIGNED
from tests.support.waiting import within

TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Oip:
    """A served repository: its stub, what was written into it, and where it is."""

    stub: pb_grpc.GRPCInferenceServiceStub
    repository: Repository
    artifacts: dict[str, Artifact]
    channel: grpc.aio.Channel
    address: str
    server: Server

    async def infer(self, **fields: Any) -> pb.ModelInferResponse:
        return await self.stub.ModelInfer(pb.ModelInferRequest(**fields), timeout=TIMEOUT_S)


@asynccontextmanager
async def served(
    models_dir: Path,
    front: str = "native",
    catalog: Any = None,
    rpc: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Oip]:
    """Serves what lies in a folder and two models more; `settings` are those of inference, `rpc` of the server."""
    artifacts = {
        "line": write_model(models_dir, "line", linear()),
        "pair": write_model(
            models_dir, "pair", sums=two_of_each(), picks=replace(picky(), file="picks.onnx")
        ),
    }
    inference = InferenceSettings(signature=UNSIGNED, intra_op_threads=1, **settings)
    repository = Repository(models_dir, "test", inference, catalog or {})
    await within(repository.load_all())
    servicer = InferenceServicer(repository, server_version="1.2.3")
    async with serving(lambda server: add_to_server(servicer, server), front=front, **(rpc or {})) as running:
        stub = pb_grpc.GRPCInferenceServiceStub(running.channel)
        yield Oip(stub, repository, artifacts, running.channel, running.address, running.server)
    await within(repository.close())


def tensor(name: str, array: np.ndarray[Any, Any], datatype: str = "FP32", *, typed: bool = False) -> Any:
    sent = pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=array.shape)
    if typed:
        encode_contents(datatype, array, sent.contents)
    return sent


def wanted(name: str, **parameters: pb.InferParameter) -> Any:
    return pb.ModelInferRequest.InferRequestedOutputTensor(name=name, parameters=parameters)


def line(rows: int = 1, **fields: Any) -> dict[str, Any]:
    """A right request for the model `line`; fields replace its own."""
    x = np.ones((rows, 16), np.float32)
    return {
        "model_name": "line",
        "inputs": [tensor("x", x)],
        "raw_input_contents": [x.tobytes()],
        **fields,
    }


async def get_violations(oip: Oip, **fields: Any) -> dict[str, str]:
    """Field -> description of a refused request."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await oip.infer(**fields)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    details = get_details(get_status(refused.value))
    return {violation.field: violation.description for violation in details["BadRequest"].field_violations}
