"""Compose: the file is right, and its topology, run as processes behind a name server, loses no call while it is scaled."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import compose_spec
import grpc
import pytest
import yaml
from sensorium.mesh.v1 import mesh_service_pb2, mesh_service_pb2_grpc, replica_service_pb2
from sensorium.nlp.v1 import nlp_service_pb2, nlp_service_pb2_grpc

from gateway.config import read_mesh
from tests.mesh.composed import COMPOSE, Composed, composed, read_compose
from tests.mesh.losing import Losses, keep_calling
from tests.mesh.running import ROOT, make_state

CALLERS = 8
TIMEOUT_S = 30.0
SETTLE_S = 60.0
REPLICA_READY = mesh_service_pb2.MeshReplica.STATE_READY
MODEL_READY = replica_service_pb2.ModelStatus.STATE_READY


def test_the_file_follows_the_specification() -> None:
    spec = compose_spec.PyCompose.from_yaml(yaml.safe_dump(read_compose()))
    spec.validate()
    assert {"gateway", "vision", "nlp", "speech"} <= set(spec.service_names())


def test_every_container_is_hardened() -> None:
    for name, service in read_compose()["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_only_the_gateway_can_be_reached_from_outside() -> None:
    document = read_compose()
    assert document["networks"]["inside"]["internal"] is True
    assert [
        name for name, one in document["services"].items() if "outside" in (one.get("networks") or ())
    ] == ["gateway", "tls"]
    assert document["services"]["tls"]["networks"] == ["outside"], "the way in leads through the gateway"
    published = {name: one["ports"] for name, one in document["services"].items() if one.get("ports")}
    assert sorted(published) == ["gateway", "grafana", "tls"]
    # Tokens travel in a header: without TLS to this machine alone.
    assert published.pop("tls") == ["8443:8443"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_who_looks_at_dashboards_reaches_no_replica() -> None:
    document = read_compose()
    assert not {"inside", "outside"} & set(document["services"]["grafana"]["networks"])
    assert document["networks"]["watching"]["internal"] is True
    optional = [
        name for name, one in document["services"].items() if one.get("profiles") == ["observability"]
    ]
    assert sorted(optional) == ["grafana", "prometheus", "tempo"]


def test_prometheus_asks_where_everybody_answers() -> None:
    document = read_compose()
    folder = COMPOSE.parent
    asked = yaml.safe_load((folder / document["configs"]["prometheus"]["file"]).read_text())["scrape_configs"]
    mesh = read_mesh(folder / document["configs"]["mesh"]["file"]).mesh
    dns = {one["job_name"]: one["dns_sd_configs"][0] for one in asked}
    assert mesh.metrics == f"0.0.0.0:{dns['gateway']['port']}" == f"0.0.0.0:{dns['gateway-control']['port']}"
    assert dns["replicas"]["names"] == [service.name for service in mesh.services]
    dockerfile = (ROOT / "deploy" / "docker" / "service-cpu.Dockerfile").read_text()
    for name in dns["replicas"]["names"]:
        assert (
            f"SENSORIUM_{name.upper()}_RPC__METRICS_ADDRESS=0.0.0.0:{dns['replicas']['port']}" in dockerfile
        )


def test_the_private_key_is_where_tokens_are_made_and_nowhere_else() -> None:
    services = read_compose()["services"]
    holders = [
        name for name, one in services.items() if any(v.startswith("keys:") for v in one.get("volumes", ()))
    ]
    assert sorted(holders) == ["keys", "tools"]


def test_its_mesh_finds_every_service_by_the_name_of_its_containers() -> None:
    document = read_compose()
    mesh = read_mesh(COMPOSE.parent / document["configs"]["mesh"]["file"]).mesh
    for service in mesh.services:
        assert service.name in document["services"]
        assert service.dns == f"{service.name}:50051"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("forgotten_first", [False, True], ids=["docker", "kubernetes"])
def test_no_call_is_lost_while_a_service_is_scaled(
    tmp_path: Path, models_dir: Path, forgotten_first: bool
) -> None:
    state = make_state(tmp_path / "state", models_dir)

    async def scale_under_load() -> Losses:
        async with composed(state, ["nlp"]) as topology:
            return await _scale(topology, forgotten_first)

    losses = asyncio.run(asyncio.wait_for(scale_under_load(), 280))
    assert not losses.lost, losses.lost
    assert losses.calls > 100


async def _scale(topology: Composed, forgotten_first: bool) -> Losses:
    token = subprocess.run(
        [sys.executable, "-m", "cli", "token", "create", "me", "--state-dir", str(topology.state)],
        cwd=ROOT, check=True, capture_output=True, text=True, timeout=TIMEOUT_S,
    ).stdout.strip()  # fmt: skip
    options = {"metadata": [("authorization", f"Bearer {token}")], "timeout": TIMEOUT_S}
    losses, stopped = Losses(), asyncio.Event()
    async with grpc.aio.insecure_channel(topology.address) as channel:
        nlp, meshes = (
            nlp_service_pb2_grpc.NlpServiceStub(channel),
            mesh_service_pb2_grpc.MeshServiceStub(channel),
        )

        async def wait_for(count: int) -> None:
            """Until as many replicas answer, and no other is known."""
            async with asyncio.timeout(SETTLE_S):
                while True:
                    request = mesh_service_pb2.ListReplicasRequest(service="nlp")
                    found = (await meshes.ListReplicas(request, **options)).replicas
                    ready = [
                        one for one in found
                        if one.state == REPLICA_READY and any(model.state == MODEL_READY for model in one.models)
                    ]  # fmt: skip
                    if len(ready) == len(found) == count:
                        return
                    await asyncio.sleep(0.1)

        def call() -> object:
            return nlp.EmbedText(nlp_service_pb2.EmbedTextRequest(texts=["The cat sleeps."]), **options)

        await wait_for(2)
        callers = [asyncio.create_task(keep_calling(call, losses, stopped)) for _ in range(CALLERS)]
        try:
            for count in (4, 1, 3):
                await topology.scale("nlp", count, forgotten_first=forgotten_first)
                await wait_for(count)
        finally:
            stopped.set()
            await asyncio.wait(callers, timeout=SETTLE_S)
    return losses
