"""What is rendered for Envoy, where the running gateway's tests would not show it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.rpc import status_pb2

from gateway.config import Bucket, Mesh
from gateway.contract import Contract, merge
from gateway.discovery.catalog import Catalog
from gateway.discovery.roster import Replica, Report, State
from gateway.envoy.clusters import render_address, render_endpoints
from gateway.envoy.files import Publisher
from gateway.envoy.filters import render_filters
from gateway.envoy.rates import render_bucket
from gateway.envoy.replies import render_replies
from gateway.envoy.routes import render_routes
from shared.errors import GATEWAY_REPLIES
from tests.gateway.support import toy
from tests.gateway.support.toy import model

OWN = Path(__file__).parents[3] / "gateway" / "descriptors.binpb"
MESH = Mesh.model_validate({"services": [{"name": "toy", "grpc": [toy.SERVICE]}]})


@pytest.fixture(scope="module")
def contract() -> Contract:
    sets = [
        descriptor_pb2.FileDescriptorSet.FromString(one) for one in (OWN.read_bytes(), toy.descriptor_set())
    ]
    return merge(sets)


def catalog(*models: Any, state: State = State.READY) -> Catalog:
    return Catalog(
        ["toy"], [Replica("toy", "h:1", state, report=Report(service="toy", models=models), heard=True)]
    )


def routes(contract: Contract, of: Catalog) -> list[Any]:
    (host,) = render_routes(MESH, contract, of)["virtual_hosts"]  # type: ignore[misc]
    return [route for route in host["routes"] if route.get("route", {}).get("cluster") == "toy"]  # type: ignore[index]


def test_only_what_may_be_repeated_is_retried_after_it_was_sent(contract: Contract) -> None:
    for route in routes(contract, catalog(model("echo", default_for=("Say", "Write")))):
        path = json.dumps(route["match"])
        repeated = "reset" in route["route"]["retry_policy"]["retry_on"]
        assert repeated is ("Write" not in path and "ModelStreamInfer" not in path), path


def test_a_model_that_is_ready_nowhere_has_no_route(contract: Contract) -> None:
    assert routes(contract, catalog(model("echo"), state=State.DRAINING)) == []
    assert routes(contract, catalog(model("echo", ready=False))) != []  # the service's other rpcs
    named = [
        route
        for route in routes(contract, catalog(model("echo", ready=False)))
        if "echo" in json.dumps(route)
    ]
    assert named == []


def test_every_route_states_who_may_take_it(contract: Contract) -> None:
    (host,) = render_routes(MESH, contract, catalog(model("echo")))["virtual_hosts"]  # type: ignore[misc]
    for route in host["routes"]:  # type: ignore[index]
        assert "sensorium.rbac_by_model" in route["typed_per_filter_config"]


def test_unreachable_replicas_are_left_out_and_draining_ones_marked() -> None:
    replicas = [Replica("toy", f"h:{n}", state) for n, state in enumerate(State)]
    (group,) = render_endpoints("toy", replicas)["endpoints"]  # type: ignore[misc]
    found = {
        one["endpoint"]["address"]["socket_address"]["port_value"]: one["health_status"]
        for one in group["lb_endpoints"]
    }  # type: ignore[index]
    states = dict(enumerate(State))
    assert {states[n]: health for n, health in found.items()} == {
        State.READY: "UNKNOWN",
        State.DRAINING: "DRAINING",
    }


@pytest.mark.parametrize(
    ("address", "rendered"),
    [
        ("unix:/a/b", {"pipe": {"path": "/a/b"}}),
        ("127.0.0.1:80", {"socket_address": {"address": "127.0.0.1", "port_value": 80}}),
        ("[::1]:80", {"socket_address": {"address": "::1", "port_value": 80}}),
    ],
)
def test_addresses(address: str, rendered: object) -> None:
    assert render_address(address) == rendered


def test_every_reply_has_both_faces() -> None:
    mappers: Any = render_replies(32 << 20, 16)["mappers"]
    assert len(mappers) == 2 * len(GATEWAY_REPLIES)
    for reply, grpc, web in zip(GATEWAY_REPLIES, mappers[::2], mappers[1::2], strict=True):
        headers = {one["header"]["key"]: one["header"]["value"] for one in grpc["headers_to_add"]}
        assert headers["grpc-status"] == str(reply.code.value[0])
        details = headers["grpc-status-details-bin"]
        status = status_pb2.Status.FromString(base64.b64decode(details + "=" * (-len(details) % 4)))
        assert status.code == reply.code.value[0]
        assert "{" not in status.message
        assert ("32 MiB" in status.message) is ("{max_message}" in reply.message)
        body = web["body_format_override"]["json_format"]
        assert body["code"] == reply.code.value[0]
        assert body["details"][0]["reason"] == reply.reason


@pytest.mark.parametrize(
    ("per_s", "burst"), [(0.5, 1), (1, 3), (7, 7), (200, 400), (3333, 1), (1_000_000, 10)]
)
def test_buckets_fill_at_the_rate_that_was_asked_for(per_s: float, burst: int) -> None:
    bucket: Any = render_bucket(Bucket(per_s=per_s, burst=burst))
    interval_s = float(bucket["fill_interval"].removesuffix("s"))
    assert bucket["tokens_per_fill"] / interval_s == pytest.approx(per_s, rel=1e-4)
    assert bucket["max_tokens"] == burst
    # Envoy takes no shorter interval than 50 ms.
    assert interval_s >= 0.05


def test_models_are_taken_out_of_every_request_that_names_one(contract: Contract) -> None:
    filters: Any = render_filters(MESH, contract, Path("/f"), Path("/d"))
    (extraction,) = (one for one in filters if one["name"].endswith("grpc_field_extraction"))
    methods = extraction["typed_config"]["extractions_by_method"]
    assert methods["toy.v1.ToyService.Say"] == {"request_field_extractions": {"model": {}}}
    inference = "inference.GRPCInferenceService"
    for name in ("ModelInfer", "ModelStreamInfer"):
        fields = methods[f"{inference}.{name}"]["request_field_extractions"]
        assert fields == {"model_name": {}, "model_version": {}}
    assert methods[f"{inference}.ModelReady"]["request_field_extractions"] == {"name": {}, "version": {}}
    # What has a `name` of something else, or is not for one replica.
    for name in ("RepositoryIndex", "RepositoryModelLoad", "SystemSharedMemoryRegister", "LogSettings"):
        assert f"{inference}.{name}" not in methods


async def test_what_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    publisher, place = Publisher(), tmp_path / "folder"

    async def changes() -> AsyncIterator[tuple[Replica, ...]]:
        yield ()

    following = asyncio.create_task(publisher.follow(changes(), lambda _: {place / "a.json": {"x": 1}}))
    async with asyncio.timeout(20):
        while not publisher.stuck:
            await asyncio.sleep(0.01)
        assert not following.done()
        place.mkdir()
        await following
    assert not publisher.stuck
    assert (place / "a.json").exists()


def test_only_what_changed_is_written_and_in_order(tmp_path: Path) -> None:
    publisher = Publisher()
    first, second = tmp_path / "b.json", tmp_path / "a.json"
    assert publisher.publish({first: {"x": 1}, second: {"y": 1}}, ()) == [first, second]
    assert publisher.publish({first: {"x": 1}, second: {"y": 2}}, ()) == [second]
    assert json.loads(second.read_text())["resources"] == [{"y": 2}]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]
