"""Who gets in: tokens of every kind on every face, and what each scope opens."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from joserfc.jwk import ECKey

from gateway.identity.token import mint
from tests.gateway.support.running import Gateway, say
from tests.support.serving import get_details, get_status


def broken_token(gateway: Gateway, kind: str) -> str | None:
    match kind:
        case "missing":
            return None
        case "expired":
            return gateway.token("toy", lifetime_s=-60)
        case "audience":
            return gateway.token("toy", audience="another")
        case "issuer":
            return gateway.token("toy", issuer="another")
        case "stranger":
            return mint(ECKey.generate_key("P-256"), subject="x", scopes=["toy"], lifetime_s=60)
        case "none":
            _, claims, _ = gateway.token("toy").split(".")
            header = (
                base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode())
                .rstrip(b"=")
                .decode()
            )
            return f"{header}.{claims}."
        case "altered":
            header, claims, signature = gateway.token("toy").split(".")
            said = json.loads(base64.urlsafe_b64decode(claims + "=="))
            said["scope"] = ["toy", "admin"]
            return f"{header}.{base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b'=').decode()}.{signature}"
        case _:
            return "no token at all"


REFUSED = [
    ("missing", "TOKEN_MISSING", "no token"),
    ("expired", "TOKEN_EXPIRED", "expired"),
    ("audience", "TOKEN_AUDIENCE", "audience"),
    ("issuer", "TOKEN_INVALID", "key this mesh trusts"),
    ("stranger", "TOKEN_INVALID", "key this mesh trusts"),
    ("none", "TOKEN_INVALID", "key this mesh trusts"),
    ("altered", "TOKEN_INVALID", "key this mesh trusts"),
    ("garbage", "TOKEN_INVALID", "key this mesh trusts"),
]


@pytest.mark.parametrize(("kind", "reason", "says"), REFUSED)
async def test_a_bad_token_is_refused_in_words(gateway: Gateway, kind: str, reason: str, says: str) -> None:
    token = broken_token(gateway, kind)
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await say(gateway, metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert says in (caught.value.details() or "")
    assert get_details(get_status(caught.value))["ErrorInfo"].reason == reason

    answer = await gateway.http("POST", "/v1/toys:say", json={}, headers=dict(metadata))
    assert answer.status_code == 401
    assert answer.json()["code"] == grpc.StatusCode.UNAUTHENTICATED.value[0]
    assert says in answer.json()["message"]
    assert answer.json()["details"][0]["reason"] == reason


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
async def test_both_headers_carry_a_token(gateway: Gateway, header: str) -> None:
    token = gateway.token("mesh")
    value = f"Bearer {token}" if header == "authorization" else token
    answer = await gateway.http("GET", "/v1/models", headers={header: value})
    assert answer.status_code == 200


async def test_a_scope_opens_its_service_only(gateway: Gateway) -> None:
    async with gateway.replica():
        assert (await say(gateway, metadata=gateway.metadata("toy"), text="hi")).text == "hi"
        with pytest.raises(grpc.aio.AioRpcError, match="scope") as caught:
            await say(gateway, metadata=gateway.metadata("vision", "mesh", "toys", "to"))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert get_details(get_status(caught.value))["ErrorInfo"].reason == "SCOPE_MISSING"


@pytest.mark.parametrize(
    "path", ["/v1/toys:say", "/v1//toys:say", "/v1/./toys:say", "/v1/toys:say?", "/v1/toys:say/"]
)
async def test_the_scope_is_asked_for_on_json_paths_too(gateway: Gateway, path: str) -> None:
    async with gateway.replica():
        answer = await gateway.http("POST", path, json={}, headers=gateway.headers("vision"))
        # A path that means nothing is not found; none of them gets through.
        assert answer.status_code in (403, 404)
        allowed = await gateway.http("POST", "/v1/toys:say", json={}, headers=gateway.headers("toy"))
        assert allowed.status_code == 200


async def test_tensors_need_the_scope_of_the_model_s_service(gateway: Gateway) -> None:
    from sensorium.oip.v2 import inference_pb2, inference_pb2_grpc

    async with gateway.replica(), gateway.channel() as opened:
        stub = inference_pb2_grpc.GRPCInferenceServiceStub(opened)
        request = inference_pb2.ModelInferRequest(model_name="echo")
        assert (await stub.ModelInfer(request, metadata=gateway.metadata("toy"), timeout=10)).id == "toy"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ModelInfer(request, metadata=gateway.metadata("vision"), timeout=10)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_an_issuer_may_write_scopes_as_one_string(gateway: Gateway) -> None:
    from joserfc import jwt

    assert gateway.key is not None
    claims: dict[str, Any] = {
        "iss": "sensorium", "aud": "sensorium", "sub": "oidc", "exp": 4_000_000_000, "scope": "openid toy mesh",
    }  # fmt: skip
    token = jwt.encode({"alg": "ES256", "kid": gateway.key.kid}, claims, gateway.key)
    answer = await gateway.http("GET", "/v1/models", headers={"x-api-key": token})
    assert answer.status_code == 200


async def never(message: Any) -> AsyncIterator[Any]:
    """A stream of requests that stays open and sends nothing."""
    await asyncio.Event().wait()
    yield message


async def test_health_is_open_and_reflection_is_not(gateway: Gateway) -> None:
    assert await gateway.health() in (1, 2)
    async with gateway.channel() as opened:
        from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

        stub = reflection_pb2_grpc.ServerReflectionStub(opened)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            # A message written behind the refusal would end the call with an error of the client's own.
            async for _ in stub.ServerReflectionInfo(never(asked), timeout=10):
                pass
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_what_a_caller_claims_to_be_is_not_believed(gateway: Gateway) -> None:
    forged = (
        ("x-sensorium-principal", "root"),
        ("x-sensorium-tier", "gold"),
        ("x-sensorium-version", "7"),
        ("x-kept-priority", "batch"),
        ("x-sensorium-deadline", "99999999999999"),
        ("x-sensorium-anything", "1"),
        ("x-sensorium-model", "none-such"),
        ("x-envoy-retry-on", "5xx"),
        ("x-request-id", "forged"),
    )
    async with gateway.replica():
        answer = await say(gateway, metadata=(*gateway.metadata("toy", subject="ana"), *forged))
    said = dict(pair.split("=", 1) for pair in answer.metadata)
    assert said["x-sensorium-principal"] == "ana"
    assert said["x-sensorium-tier"] == "default"
    assert int(said["x-sensorium-deadline"]) < 99999999999999
    assert said["x-request-id"] != "forged"
    assert not said.keys() & {
        "x-sensorium-anything", "x-sensorium-model", "x-sensorium-version", "x-sensorium-priority",
        "x-envoy-retry-on", "x-kept-priority",
    }  # fmt: skip
    # The token is the gateway's business.
    assert not said.keys() & {"authorization", "x-api-key"}


async def test_a_replica_hears_of_tier_and_priority(gateway: Gateway) -> None:
    async with gateway.replica():
        metadata = gateway.metadata("toy", subject="ana", tier="slow")
        answer = await say(gateway, metadata=(*metadata, ("x-sensorium-priority", "batch")))
        said = dict(pair.split("=", 1) for pair in answer.metadata)
        assert said["x-sensorium-principal"] == "ana"
        assert said["x-sensorium-tier"] == "slow"
        assert said["x-sensorium-priority"] == "batch"
        # The same over JSON.
        headers = {**gateway.headers("toy"), "x-sensorium-priority": "batch"}
        found = (await gateway.http("POST", "/v1/toys:say", headers=headers, json={})).json()["metadata"]
        assert "x-sensorium-priority=batch" in found
        # What it means is the replica's to say; nothing lifts a caller above others.
        with pytest.raises(grpc.aio.AioRpcError, match="x-sensorium-priority") as caught:
            await say(gateway, metadata=(*gateway.metadata("toy"), ("x-sensorium-priority", "urgent")))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
