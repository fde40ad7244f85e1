"""The reference client of the protocol, unmodified, straight to a replica: every datatype, and what it makes of errors."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

from shared.inference.datatypes import NUMPY_TYPES
from shared.inference.oip.message import add_to_server
from shared.inference.oip.servicer import InferenceServicer
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from tests.shared.inference.graphs import identity, picky, two_of_each, write_model
from tests.support.serving import serving
from tests.support.waiting import within

PYTHON = Path(__file__).parents[4] / ".venv-tritonclient/bin/python"
SCRIPT = Path(__file__).with_name("tritonclient_types.py")


async def test_tritonclient_speaks_every_datatype(tmp_path: Path, front: str) -> None:
    for datatype in NUMPY_TYPES:
        write_model(tmp_path, f"same-{datatype}", identity(datatype))
    write_model(tmp_path, "pair", sums=two_of_each(), picks=replace(picky(), file="picks.onnx"))
    repository = Repository(tmp_path, "test", InferenceSettings(intra_op_threads=1), {})
    await within(repository.load_all())
    servicer = InferenceServicer(repository)
    async with serving(lambda server: add_to_server(servicer, server), front=front) as running:
        process = await asyncio.create_subprocess_exec(
            PYTHON,
            SCRIPT,
            running.address,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await within(process.communicate(), 60)
    await within(repository.close())
    assert process.returncode == 0, err.decode()
    said = json.loads(out)
    assert said["same"] == dict.fromkeys(said["same"], True)
    assert said["same"].keys() == NUMPY_TYPES.keys()
    assert said["id"] == "seven"
    assert said["difference"] == [[0, 0, 0], [0, 0, 0]]
    assert said["sum"] is None
    assert said["ready"] == {"pair.sums": True, "pair": True, "nobody": False}
    assert said["server_ready"]
    for case, status, text in (
        (
            "wrong_name",
            "INVALID_ARGUMENT",
            'inputs[0].name: expected one of same-FP32\'s inputs "x", got "z"',
        ),
        ("wrong_type", "INVALID_ARGUMENT", 'inputs[0].datatype: expected INT8 for "x", got "FP32"'),
        ("unknown", "NOT_FOUND", 'no model is named "nobody"; those that exist: pair, same-BOOL'),
        ("classes", "INVALID_ARGUMENT", "no request for classification of outputs"),
        ("sequence", "INVALID_ARGUMENT", "no request for sequences of calls"),
    ):
        assert said[case]["status"] == f"StatusCode.{status}"
        assert text in said[case]["message"]
    assert said["config"]["input"] == [{"name": "x", "data_type": "TYPE_STRING", "dims": ["-1"]}]
    assert said["statistics"]["inference_count"] == "2"
    assert {"name": "pair.sums", "version": "1", "state": "READY"} in said["index"]
