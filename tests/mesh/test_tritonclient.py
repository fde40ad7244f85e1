"""The reference client of the Open Inference Protocol, unmodified, through the gateway with a token."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.mesh.running import ROOT, RunningMesh, run

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
