"""The one retry policy: the copy that the Python client carries, and that it names what may be repeated and nothing else."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import ServiceDescriptor
from sensorium.mesh.v1 import mesh_service_pb2
from sensorium.nlp.v1 import nlp_service_pb2
from sensorium.oip.v2 import inference_pb2
from sensorium.speech.v1 import speech_service_pb2
from sensorium.vision.v1 import vision_service_pb2

SHARED = Path(__file__).parents[2] / "clients/service_config.json"
SERVICES = [
    service
    for module in (mesh_service_pb2, nlp_service_pb2, inference_pb2, speech_service_pb2, vision_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
]


def is_retried(service: ServiceDescriptor, method: str) -> bool:
    names = [name for entry in json.loads(SHARED.read_text())["methodConfig"] for name in entry["name"]]
    return {"service": service.full_name} in names or {
        "service": service.full_name,
        "method": method,
    } in names


def test_the_python_client_carries_the_policy_of_all_clients() -> None:
    assert (files("sensorium") / "service_config.json").read_bytes() == SHARED.read_bytes()


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.full_name)
def test_what_is_without_side_effects_is_retried_and_nothing_else(service: ServiceDescriptor) -> None:
    harmless = descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS
    expected = {method.name: method.GetOptions().idempotency_level == harmless for method in service.methods}
    assert {name: is_retried(service, name) for name in expected} == expected
