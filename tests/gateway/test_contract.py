"""What is read out of descriptor sets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from gateway.contract import HEALTH, INFERENCE, MESH, Contract, merge, path_expression
from tests.gateway.support import toy

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def contract() -> Contract:
    own = descriptor_pb2.FileDescriptorSet.FromString((ROOT / "gateway" / "descriptors.binpb").read_bytes())
    return merge([own, descriptor_pb2.FileDescriptorSet.FromString(toy.descriptor_set())])


def test_every_service_is_there(contract: Contract) -> None:
    assert {
        MESH,
        INFERENCE,
        HEALTH,
        toy.SERVICE,
        "sensorium.vision.v1.VisionService",
    } <= contract.services.keys()


def test_methods_know_their_model_field_and_whether_they_may_be_repeated(contract: Contract) -> None:
    found = {
        path: contract.method(path)
        for path in (
            f"/{INFERENCE}/ModelInfer",
            f"/{INFERENCE}/ModelReady",
            f"/{INFERENCE}/ServerLive",
            f"/{toy.SERVICE}/Say",
            f"/{toy.SERVICE}/Write",
            f"/{toy.SERVICE}/StreamingCount",
        )
    }
    said = {
        path.rpartition("/")[2]: (method.model_field, method.repeatable, method.streaming)
        for path, method in found.items()
        if method
    }
    assert said == {
        "ModelInfer": ("model_name", True, False),
        "ModelReady": ("name", True, False),
        "ServerLive": ("", True, False),
        "Say": ("model", True, False),
        "Write": ("model", False, False),
        "StreamingCount": ("model", True, True),
    }
    assert contract.method("/nobody/Any") is None
    assert contract.method(f"/{toy.SERVICE}/Nothing") is None


@pytest.mark.parametrize(
    ("template", "path", "matches"),
    [
        ("/v1/images:classify", "/v1/images:classify", True),
        ("/v1/images:classify", "/v1/imagesXclassify", False),
        ("/v1/{name}", "/v1/a.b", True),
        ("/v1/{name}", "/v1/a/b", False),
        ("/v1/{name=models/*}:load", "/v1/models/x:load", True),
        ("/v1/{name=models/*}:load", "/v1/models/x/y:load", False),
        ("/v1/{name=**}", "/v1/a/b/c", True),
        ("/v1/*/x", "/v1/any/x", True),
        ("/v1.0/x", "/v1a0/x", False),
    ],
)
def test_path_templates(template: str, path: str, matches: bool) -> None:
    assert (re.fullmatch(path_expression(template), path) is not None) is matches
