"""A replica as a process of its own: what was changed since it was signed does not take over, whichever byte it is."""

from __future__ import annotations

import json
import random
import re
import shutil
from pathlib import Path

import grpc
import numpy as np
import pytest
from sensorium.oip.v2 import inference_pb2 as pb
from sensorium.oip.v2 import inference_pb2_grpc as pb_grpc

from cli.registry.key import own_signer
from shared.inference.artifact import write_artifact
from tests.shared.inference.graphs import draft_of, entry_of, linear
from tests.support.service_process import loaded, started
from tests.support.waiting import within

LIMIT_S = 60.0
PER_FILE = 12
# What a reason may say of a file that was changed; a manifest that is none any more says which field.
NAMED = re.compile(r"signature\.jws|artifact\.json|sha256|bytes")


async def test_no_changed_artifact_takes_over(tmp_path: Path) -> None:
    models, drafts = tmp_path / "models" / "nlp", tmp_path / "drafts"
    signer = own_signer(tmp_path)
    for folder, version in ((models, "1"), (drafts, "2")):
        entry = entry_of("line", version, service="nlp", card_text="# Line\n\nA card.\n")
        write_artifact(folder, entry, draft_of(linear()), sign=signer.sign)
    socket = f"unix:{tmp_path}/nlp.sock"
    environ = {
        "SENSORIUM_STATE_DIR": str(tmp_path),
        "SENSORIUM_NLP_RPC__ADDRESS": socket,
        "SENSORIUM_NLP_INFERENCE__WATCH_S": "0",
    }
    rng = random.Random(3)
    async with started("services.nlp", environ) as process, grpc.aio.insecure_channel(socket) as channel:
        await within(loaded(channel), LIMIT_S)
        stub = pb_grpc.GRPCInferenceServiceStub(channel)

        async def infer() -> str:
            request = pb.ModelInferRequest(model_name="line")
            request.inputs.add(name="x", datatype="FP32", shape=[1, 16])
            request.raw_input_contents.append(np.ones((1, 16), np.float32).tobytes())
            return str((await within(stub.ModelInfer(request), LIMIT_S)).model_version)

        assert await infer() == "1"
        target = models / "line" / "2"
        shutil.copytree(drafts / "line" / "2", target)
        for path in sorted(target.iterdir()):
            content = path.read_bytes()
            for _ in range(PER_FILE):
                at = rng.randrange(len(content))
                changed = bytearray(content)
                changed[at] = (changed[at] + rng.randrange(1, 256)) % 256
                path.write_bytes(changed)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await within(
                        stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="line")), LIMIT_S
                    )
                assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION, (path.name, at)
                said = str(caught.value.details())
                assert "version 2 of model nlp/line was refused, version 1 serves on" in said
                assert NAMED.search(said), (path.name, at, said)
            assert await infer() == "1"
            path.write_bytes(content)
        # The status and the log tell, too.
        (target / "signature.jws").unlink()
        with pytest.raises(grpc.aio.AioRpcError, match="it is not signed"):
            await within(stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="line")), LIMIT_S)
        index = await within(stub.RepositoryIndex(pb.RepositoryIndexRequest()), LIMIT_S)
        assert {(one.version, one.state) for one in index.models if one.name == "line"} >= {("1", "READY")}
        assert any("it is not signed" in one.reason for one in index.models)
        # And whole it takes over.
        shutil.copy(drafts / "line" / "2" / "signature.jws", target)
        await within(stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="line")), LIMIT_S)
        assert await infer() == "2"
        process.terminate()
        _, log = await within(process.communicate(), LIMIT_S)
    refused = [json.loads(line) for line in log.decode().splitlines() if "model unavailable" in line]
    kinds = {line["kind"] for line in refused if line["model"] == "line"}
    assert {"signature", "artifact"} <= kinds
    assert len(refused) >= 6 * PER_FILE
