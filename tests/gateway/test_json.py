"""The same calls as HTTP/JSON and gRPC-Web: names, codes, details, limits."""

from __future__ import annotations

import pytest

from tests.gateway.support.running import Gateway
from tests.gateway.support.toy import SayRequest, SayResponse


async def test_a_call_in_json(gateway: Gateway) -> None:
    async with gateway.replica():
        answer = await gateway.http("POST", "/v1/toys:say", json={"text": "grüß dich", "model": "toy/echo"})
        assert answer.status_code == 200
        said = answer.json()
        assert said["text"] == "grüß dich"
        # Names as JSON has them, enums by name, zeros there.
        assert (said["aNumber"], said["mood"]) == (0, "MOOD_GOOD")
        assert "x-sensorium-model=toy/echo" in said["metadata"]
        assert answer.headers["x-request-id"]


async def test_a_stream_in_json_is_one_object_a_line(gateway: Gateway) -> None:
    async with gateway.replica():
        answer = await gateway.http("POST", "/v1/toys:count", json={"aNumber": 3})
        assert [line.count('"aNumber"') for line in answer.text.splitlines()] == [1, 1, 1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"text": ', "MALFORMED_REQUEST"),
        (b'{"aNumber": "many"}', "a_number"),
        (b'{"aNumber": 1e30}', "a_number"),
        (b'["a"]', "MALFORMED_REQUEST"),
        (b"\xff\xfe", "MALFORMED_REQUEST"),
    ],
)
async def test_bad_json_is_named(gateway: Gateway, content: bytes, says: str) -> None:
    async with gateway.replica():
        answer = await gateway.http("POST", "/v1/toys:say", content=content)
    assert answer.status_code == 400
    said = answer.json()
    assert said["code"] == 3
    assert says in answer.text


async def test_unknown_query_parameters_are_refused(gateway: Gateway) -> None:
    async with gateway.replica():
        answer = await gateway.http("POST", "/v1/toys:say?txet=hi", json={})
    assert answer.status_code == 400
    assert "txet" in answer.json()["message"]


@pytest.mark.parametrize("path", ["/", "/v1", "/v2/health/ready", "/v1/toys:shout", "/toy.v1.ToyService/Say"])
async def test_a_path_that_is_not_there(gateway: Gateway, path: str) -> None:
    answer = await gateway.http("POST", path, json={})
    assert answer.status_code == 404
    said = answer.json()
    assert (said["code"], said["details"][0]["reason"]) == (12, "METHOD_UNKNOWN")


async def test_errors_of_the_control_plane_have_details(gateway: Gateway) -> None:
    async with gateway.replica():
        answer = await gateway.http("POST", "/v1/toys:say", json={"model": "none"})
    assert answer.status_code == 404
    said = answer.json()
    assert said["code"] == 5
    assert "those that exist: echo" in said["message"]
    assert [detail["@type"].rpartition(".")[2] for detail in said["details"]] == ["ErrorInfo", "ResourceInfo"]
    answer = await gateway.http("POST", "/v1/toys:say", json={})
    assert answer.status_code == 503
    assert answer.json()["details"][1]["retryDelay"]


async def test_a_body_above_the_limit_is_too_large(gateway: Gateway) -> None:
    async with gateway.replica():
        answer = await gateway.http("POST", "/v1/toys:say", json={"text": "x" * (12 << 20)})
        assert (answer.status_code, answer.json()["details"][0]["reason"]) == (413, "MESSAGE_TOO_LARGE")
        assert (await gateway.http("POST", "/v1/toys:say", json={"text": "x" * (3 << 20)})).status_code == 200


async def test_headers_above_the_limit_are_too_large(gateway: Gateway) -> None:
    answer = await gateway.http("GET", "/v1/models", headers={**gateway.headers(), "x-long": "x" * 20_000})
    assert answer.status_code == 431
    assert answer.json()["details"][0]["reason"] == "HEADERS_TOO_LARGE"


async def test_grpc_web(gateway: Gateway) -> None:
    message = SayRequest(text="web").SerializeToString()
    frame = b"\0" + len(message).to_bytes(4, "big") + message
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    async with gateway.replica():
        answer = await gateway.http(
            "POST", "/toy.v1.ToyService/Say", headers=headers | gateway.headers(), content=frame
        )
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/grpc-web+proto"
        size = int.from_bytes(answer.content[1:5], "big")
        assert SayResponse.FromString(answer.content[5 : 5 + size]).text == "web"
        assert b"grpc-status:0" in answer.content[5 + size :].replace(b" ", b"")
    answer = await gateway.http("POST", "/toy.v1.ToyService/Say", headers=headers, content=frame)
    assert answer.headers["grpc-status"] == "16"
    assert "no token" in answer.headers["grpc-message"]
