"""What the Python distribution asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

CLIENT = Path(__file__).parents[2] / "clients/python"
STUBS = "sensorium/nlp/v1/nlp_service_pb2"


def test_it_asks_for_no_release_that_its_stubs_refuse() -> None:
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]
    needs = {need.name: need.specifier for need in map(Requirement, project["dependencies"])}
    messages, services = (CLIENT / f"{STUBS}.py").read_text(), (CLIENT / f"{STUBS}_grpc.py").read_text()
    made_with = re.search(r"Domain\.PUBLIC,\s+(\d+),\s+(\d+),\s+(\d+)", messages)
    assert made_with is not None
    major, minor, patch = map(int, made_with.groups())
    assert f"{major}.{minor}.{patch}" in needs["protobuf"]
    assert f"{major}.{minor}.{patch - 1}" not in needs["protobuf"]
    # Newer runtimes take it as long as they are of this major or the next.
    assert f"{major + 2}.0.0" not in needs["protobuf"]
    made_with = re.search(r"GRPC_GENERATED_VERSION = '([\d.]+)'", services)
    assert made_with is not None
    assert made_with[1] in needs["grpcio"]
    oldest = made_with[1].split(".")[:2]
    assert f"{oldest[0]}.{int(oldest[1]) - 1}.0" not in needs["grpcio"]
