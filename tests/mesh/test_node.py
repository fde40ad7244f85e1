"""Node, with stubs made from protos/ alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.mesh.running import RunningMesh, run

INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 3, 4, 5


def test_a_round_from_node(mesh: RunningMesh, sample: Callable[[str], Path]) -> None:
    done = run(["node", "clients/node/round.mjs", sample("cat")], mesh)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {"Egyptian cat", "tabby", "tabby cat"} & {label["label"].split(",")[0] for label in said["labels"]}
    assert said["model"]["name"] == "vision/efficientnet-lite0"
    assert said["dimensions"] == 384
    assert said["models"] >= 5
    assert said["empty"]["code"] == INVALID_ARGUMENT
    assert said["empty"]["violations"][0]["field"] == "images"
    assert said["unknown"]["code"] == NOT_FOUND
    assert "efficientnet-lite0" in said["unknown"]["message"]
    assert said["late"]["code"] == DEADLINE_EXCEEDED
