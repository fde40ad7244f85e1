"""Who gets in: every wrong token is refused with its own reason, on both faces."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import grpc
import httpx
import pytest
from sensorium.mesh.v1 import mesh_service_pb2, mesh_service_pb2_grpc
from sensorium.nlp.v1 import nlp_service_pb2, nlp_service_pb2_grpc

from gateway.identity.key import load_or_create
from gateway.identity.token import mint
from tests.mesh.running import RunningMesh

REQUEST = nlp_service_pb2.EmbedTextRequest(texts=["hello"])


def encode(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def make_token(mesh: RunningMesh, tmp_path: Path, kind: str) -> str | None:
    key = load_or_create(mesh.state / "keys")
    good = {"subject": "tester", "scopes": ["nlp"], "lifetime_s": 60.0}
    claims = {"iss": "sensorium", "aud": "sensorium", "sub": "x", "scope": ["nlp"], "exp": 4_000_000_000}
    made: dict[str, Callable[[], str | None]] = {
        "none": lambda: None,
        "garbage": lambda: "not-a-token",
        "expired": lambda: mint(key, **{**good, "lifetime_s": -600.0}),
        "audience": lambda: mint(key, **good, audience="someone-else"),
        "issuer": lambda: mint(key, **good, issuer="someone-else"),
        "unsigned": lambda: f"{encode({'alg': 'none', 'typ': 'JWT'})}.{encode(claims)}.",
        "foreign": lambda: mint(load_or_create(tmp_path / "keys"), **good),
        "scope": lambda: mint(key, **{**good, "scopes": ["vision"]}),
        "good": lambda: mint(key, **good),
    }
    return made[kind]()


@pytest.mark.parametrize("kind", ["none", "garbage", "expired", "audience", "issuer", "unsigned", "foreign"])
def test_a_wrong_token_is_unauthenticated(
    mesh: RunningMesh, channel: grpc.Channel, tmp_path: Path, kind: str
) -> None:
    token = make_token(mesh, tmp_path, kind)
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with pytest.raises(grpc.RpcError) as refused:
        nlp_service_pb2_grpc.NlpServiceStub(channel).EmbedText(REQUEST, metadata=metadata, timeout=10)
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert "token" in refused.value.details().lower()
    if kind == "expired":
        assert "expired" in refused.value.details()
    headers = {"authorization": f"Bearer {token}"} if token else {}
    reply = httpx.post(
        f"http://{mesh.address}/v1/texts:embed", json={"texts": ["hello"]}, headers=headers, timeout=10
    )
    assert reply.status_code == 401
    assert reply.json()["code"] == grpc.StatusCode.UNAUTHENTICATED.value[0]


def test_a_token_without_the_scope_is_denied_and_told_which(
    mesh: RunningMesh, channel: grpc.Channel, tmp_path: Path
) -> None:
    token = make_token(mesh, tmp_path, "scope")
    with pytest.raises(grpc.RpcError) as refused:
        nlp_service_pb2_grpc.NlpServiceStub(channel).EmbedText(
            REQUEST, metadata=[("authorization", f"Bearer {token}")], timeout=10
        )
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "scope" in refused.value.details()
    headers = {"authorization": f"Bearer {token}"}
    reply = httpx.post(
        f"http://{mesh.address}/v1/texts:embed", json={"texts": ["hello"]}, headers=headers, timeout=10
    )
    assert reply.status_code == 403
    with pytest.raises(grpc.RpcError) as refused:
        mesh_service_pb2_grpc.MeshServiceStub(channel).ListModels(
            mesh_service_pb2.ListModelsRequest(), metadata=[("authorization", f"Bearer {token}")], timeout=10
        )
    assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
def test_a_good_token_is_taken_from_either_header(
    mesh: RunningMesh, channel: grpc.Channel, tmp_path: Path, header: str
) -> None:
    token = make_token(mesh, tmp_path, "good")
    value = f"Bearer {token}" if header == "authorization" else token
    reply = nlp_service_pb2_grpc.NlpServiceStub(channel).EmbedText(
        REQUEST, metadata=[(header, value)], timeout=10
    )
    assert len(reply.results) == 1
