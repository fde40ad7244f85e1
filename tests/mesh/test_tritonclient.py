"""The reference client of the Open Inference Protocol, unmodified, through the gateway with a token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.inference.artifact import write_artifact
from tests.mesh.running import ROOT, RunningMesh, run, running_mesh
from tests.shared.inference.graphs import draft_of, entry_of, linear
from tests.shared.inference.oip import surface
from tests.support.signing import UNSIGNED_ENVIRON

PYTHON = ROOT / ".venv-tritonclient/bin/python"
SCRIPT = Path(__file__).with_name("tritonclient_round.py")


@pytest.mark.parametrize("model", ["efficientnet-lite0", "vision/efficientnet-lite0", "minilm", "silero-vad"])
def test_a_model_of_every_service_answers(mesh: RunningMesh, model: str) -> None:
    done = run([PYTHON, SCRIPT, model], mesh)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["live"]
    assert said["ready"]
    assert said["model_ready"]
    assert said["server"]["name"] == "sensorium"
    assert said["metadata"]["name"] == model
    assert said["config"]["name"] == model
    assert said["config"]["backend"] == "onnxruntime"
    assert said["outputs"]
    assert all(output["finite"] for output in said["outputs"].values())
    # The first call with an id, the counters before and after: what was asked for was counted.
    assert said["counted"] == said["sent"]
    assert said["index"]["state"] == "READY"


def test_an_unknown_model_is_named_with_those_that_exist(mesh: RunningMesh) -> None:
    done = run([PYTHON, SCRIPT, "no-such-model"], mesh)
    assert done.returncode == 3
    said = json.loads(done.stdout)
    assert said["status"] == "StatusCode.NOT_FOUND"
    assert "efficientnet-lite0" in said["message"]


async def test_all_of_it_works_through_the_gateway(tmp_path: Path) -> None:
    # Small models of every kind in the place of those of one service, and something for the others to serve.
    surface.write_models(tmp_path / "models/nlp", "nlp")
    for service in ("vision", "speech"):
        entry = entry_of(f"{service}-line", service=service)
        write_artifact(tmp_path / "models" / service, entry, draft_of(linear()))
    # A machine that pauses is no overload here: sixteen callers of a tiny model are all to be answered.
    patient = {"SENSORIUM_NLP_RPC__ADMISSION__MAX_QUEUE_WAIT_S": "60"}
    with running_mesh(tmp_path, environ={**UNSIGNED_ENVIRON, **patient}) as mesh:
        said = await surface.ask(mesh.address, mesh.token)
    assert not any(said.values()), "\n".join(f"{name}: {wrong}" for name, wrong in said.items() if wrong)
    assert len(said) >= 24
