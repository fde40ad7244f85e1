"""What a replica says of how a reply came about reaches callers on every face; what it says of its load does not."""

from __future__ import annotations

from typing import Any

from shared.errors import ResourceExhausted
from tests.gateway.support.running import MESH, Gateway
from tests.gateway.support.toy import SERVICE, SayRequest, SayResponse, toy
from tests.gateway.support.toy import say as answer

FIGURES = {
    "x-sensorium-queue": "0.001000",
    "x-sensorium-batch": "0.000200",
    "x-sensorium-compute": "0.004000",
    "x-sensorium-batch-size": "4",
    "x-sensorium-model-version": "toy/echo@1",
}
LOAD = "endpoint-load-metrics-bin"


async def report(request: Any, context: Any) -> Any:
    """Answers with figures of how it came about."""
    if request.text == "full":
        raise ResourceExhausted("the toy", limit=1, retry_after_s=1.2)
    context.set_trailing_metadata((*FIGURES.items(), (LOAD, b"\x09\x00")))
    return await answer(request, context)


async def test_in_trailers_over_grpc(gateway: Gateway) -> None:
    async with gateway.replica(register=[toy(report)]), gateway.channel() as opened:
        call = opened.unary_unary(
            f"/{SERVICE}/Say",
            request_serializer=SayRequest.SerializeToString,
            response_deserializer=SayResponse.FromString,
        )(SayRequest(), metadata=gateway.metadata(), timeout=10)
        await call
        trailers = dict(await call.trailing_metadata())
    assert trailers.items() >= FIGURES.items()
    assert LOAD not in trailers


async def test_in_the_last_frame_over_grpc_web(gateway: Gateway) -> None:
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", **gateway.headers()}
    async with gateway.replica(register=[toy(report)]):
        found = await gateway.http("POST", f"/{SERVICE}/Say", headers=headers, content=b"\0\0\0\0\0")
    for name, value in FIGURES.items():
        assert f"{name}:{value}".encode() in found.content
    assert LOAD.encode() not in found.content


async def test_in_headers_over_json(gateway: Gateway) -> None:
    async with gateway.replica(register=[toy(report)]):
        found = await gateway.http("POST", "/v1/toys:say", json={"text": "hi"})
        assert found.json()["text"] == "hi"
        assert dict(found.headers).items() >= FIGURES.items()
        assert LOAD not in found.headers
        # A stream is not held back for what comes last.
        stream = await gateway.http("POST", "/v1/toys:count", json={"aNumber": 2})
        assert "content-length" not in stream.headers
        refused = await gateway.http("POST", "/v1/toys:say", json={"text": "full"})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
    assert [one["@type"].rpartition(".")[2] for one in refused.json()["details"]] == [
        "ErrorInfo", "QuotaFailure", "RetryInfo",
    ]  # fmt: skip


async def test_a_page_may_send_a_priority_and_read_the_figures(new_gateway: Any) -> None:
    gateway = new_gateway(mesh=MESH + "cors_origins: ['https://app.example.com']\n")
    gateway.start()
    origin = {"origin": "https://app.example.com"}
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-sensorium-priority",
    }
    allowed = (await gateway.http("OPTIONS", "/v1/toys:say", headers=origin | asked)).headers
    assert "x-sensorium-priority" in allowed["access-control-allow-headers"].split(", ")
    async with gateway.replica(register=[toy(report)]):
        found = await gateway.http(
            "POST", "/v1/toys:say", headers=origin | gateway.headers(), json={"text": "hi"}
        )
    readable = found.headers["access-control-expose-headers"].split(", ")
    assert set(FIGURES) <= set(readable)
    assert found.headers["x-sensorium-queue"] == FIGURES["x-sensorium-queue"]
