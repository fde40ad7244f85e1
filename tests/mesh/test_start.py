"""How a mesh starts, refuses to start and stops."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sensorium.mesh.v1 import mesh_service_pb2, mesh_service_pb2_grpc, replica_service_pb2
from sensorium.nlp.v1 import nlp_service_pb2, nlp_service_pb2_grpc

from tests.mesh.running import ROOT, STOP_S, make_state, replica_pids, running_mesh, start, stop, wait_ready

CONFIG = ROOT / "deploy/mesh.yaml"
START_TIMEOUT_S = 60


def refuse_to_start(state: Path, *flags: str, environ: dict[str, str] | None = None) -> str:
    """The reason on standard error of a mesh that must not start: one line, exit status not 0."""
    process = start(state, *flags, environ=environ)
    try:
        said, reason = process.communicate(timeout=START_TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode not in (0, None)
    assert "ready" not in said
    assert "Traceback" not in reason
    lines = [line for line in reason.splitlines() if line.strip()]
    assert lines
    return lines[-1]


def test_the_port_is_in_use(tmp_path: Path, models_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        reason = refuse_to_start(make_state(tmp_path / "state", models_dir), "--port", str(port))
    assert str(port) in reason
    assert "in use" in reason


def test_envoy_is_missing(tmp_path: Path, models_dir: Path) -> None:
    missing = {"SENSORIUM_GATEWAY_ENVOY_PATH": str(tmp_path / "no-envoy")}
    reason = refuse_to_start(make_state(tmp_path / "state", models_dir), environ=missing)
    assert "no-envoy" in reason
    assert "SENSORIUM_GATEWAY_ENVOY_PATH" in reason


@pytest.mark.parametrize(
    ("broken", "says"),
    [("services: [\n", ":2: not YAML"), ("no_such_key: 1\n", "no_such_key"), ("services: 7\n", "services")],
)
def test_a_bad_mesh_yaml_names_line_and_key(tmp_path: Path, models_dir: Path, broken: str, says: str) -> None:
    config = tmp_path / "mesh.yaml"
    config.write_text(broken)
    reason = refuse_to_start(make_state(tmp_path / "state", models_dir), "--config", str(config))
    assert f"{config}:" in reason
    assert says in reason


def test_a_corrupted_model_is_named_and_the_others_serve(tmp_path: Path, models_dir: Path) -> None:
    state = make_state(tmp_path / "state", models_dir)
    (state / "models").unlink()
    shutil.copytree(models_dir / "vision", state / "models/vision", symlinks=False)
    for service in ("nlp", "speech"):
        (state / "models" / service).symlink_to(models_dir / service, target_is_directory=True)
    graph = next((state / "models/vision/centerface").rglob("*.onnx"))
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 0x01
    graph.chmod(0o644)
    graph.write_bytes(content)
    with (
        running_mesh(state, "--replicas", "vision=1,nlp=0,speech=0") as mesh,
        grpc.insecure_channel(mesh.address) as channel,
    ):
        stub = mesh_service_pb2_grpc.MeshServiceStub(channel)
        listed = stub.ListModels(
            mesh_service_pb2.ListModelsRequest(service="vision"), metadata=mesh.metadata, timeout=10
        )
        models = {entry.model.name: entry.model for entry in listed.models}
        ready = replica_service_pb2.ModelStatus.STATE_READY
        assert models["centerface"].state == replica_service_pb2.ModelStatus.STATE_UNAVAILABLE
        assert graph.name in models["centerface"].reason
        assert "sha256" in models["centerface"].reason or "digest" in models["centerface"].reason
        assert models["efficientnet-lite0"].state == ready
        assert models["pp-ocr"].state == ready


def test_without_replicas_it_starts_and_says_not_serving(tmp_path: Path, models_dir: Path) -> None:
    state = make_state(tmp_path / "state", models_dir)
    with (
        running_mesh(state, "--replicas", "vision=0,nlp=0,speech=0") as mesh,
        grpc.insecure_channel(mesh.address) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), metadata=mesh.metadata, timeout=10
        )
        assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as refused:
            nlp_service_pb2_grpc.NlpServiceStub(channel).EmbedText(
                nlp_service_pb2.EmbedTextRequest(texts=["hello"]), metadata=mesh.metadata, timeout=10
            )
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_cleanly_and_leaves_no_process(
    tmp_path: Path, models_dir: Path, signal_number: signal.Signals
) -> None:
    state = make_state(tmp_path / "state", models_dir)
    process = start(state, "--replicas", "vision=0,nlp=1,speech=0")
    wait_ready(process)
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, timeout=10
    ).stdout.split()
    assert len(children) >= 2
    process.send_signal(signal_number)
    process.communicate(timeout=STOP_S)
    assert process.returncode == (130 if signal_number == signal.SIGINT else 0) or process.returncode == 0
    for child in children:
        assert not Path(f"/proc/{child}").exists()


def test_children_end_with_a_killed_supervisor(tmp_path: Path, models_dir: Path) -> None:
    state = make_state(tmp_path / "state", models_dir)
    with running_mesh(state, "--replicas", "vision=0,nlp=1,speech=0") as mesh:
        (pid,) = replica_pids(mesh)["nlp"]
        descriptor = os.pidfd_open(pid)
        mesh.process.kill()
        mesh.process.communicate(timeout=STOP_S)
        import select

        readable, _, _ = select.select([descriptor], [], [], STOP_S)
        os.close(descriptor)
        assert readable, "the replica outlived its supervisor"


def test_a_second_mesh_on_another_state_folder_does_not_mind_the_first(
    tmp_path: Path, models_dir: Path
) -> None:
    flags = ("--replicas", "vision=0,nlp=1,speech=0")
    with running_mesh(make_state(tmp_path / "one", models_dir), *flags) as one:
        second = start(make_state(tmp_path / "two", models_dir), *flags)
        assert wait_ready(second) != one.address
        assert stop(second) in (0, 130)


def test_the_command_says_its_version_and_help() -> None:
    for flag in ("--help", "--version"):
        done = subprocess.run(
            [sys.executable, "-m", "cli", flag], cwd=ROOT, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0
        assert done.stdout
