"""A real Prometheus asks a live mesh under traffic: every panel, alert and scaler gets an answer. `make test-observability`.

Not collected by `make test`: it needs Debian's package `prometheus`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from sensorium.nlp.v1 import nlp_service_pb2, nlp_service_pb2_grpc
from sensorium.speech.v1 import speech_service_pb2, speech_service_pb2_grpc
from sensorium.vision.v1 import vision_service_pb2, vision_service_pb2_grpc

from tests.mesh.running import ROOT, RunningMesh, make_state, running_mesh
from tests.observability.expression import ALERTS, Expression, read_alerts, read_dashboards, read_scalers
from tests.observability.prometheus import Prometheus, find, prometheus
from tests.observability.target import SERVICES, Target, make_environ, make_targets

CALLERS = 6
# How long a panel may take to have something to show: rates need two samples, and something that happened.
PATIENCE_S = 60.0
_ENVIRON = {
    # Soon overloaded, so that refusals and their bounds are seen.
    "SENSORIUM_NLP_RPC__ADMISSION__MAX_QUEUE_WAIT_S": "0.000001",
    "SENSORIUM_NLP_RPC__ADMISSION__MIN_IN_FLIGHT": "1",
    "SENSORIUM_VISION_INFERENCE__CACHE_BYTES": "10000000",
}
# What a mesh that is under such traffic and has lost nothing must not be told of.
_SILENT = {
    "GatewayDown", "GatewayAbsent", "ControlPlaneDown", "EnvoyRestarted", "GatewayOverloaded", "ConnectionsRefused",
    "ConfigurationRejected", "GatewayCannotWrite", "NameUnknown", "NoReplicaReady",
    "ReplicaUnreachable", "ReplicaRestarted", "ReplicaNotMeasured", "ReplicasEjected",
    "DescriptorsRunningOut", "ModelQuarantined", "ModelVersionRefused", "TracesDropped",
    "RetryBudgetSpent",
}  # fmt: skip
# Conditions that hold nowhere in a mesh that is well, and what they are about.
_WATCHED = (
    ('absent(up{job="gateway"} == 1)', 'count(up{job="gateway"} == 1)'),
    ("== 0 and on", "and on"),
    ('reason=~"quarantined:.*"', 'reason=~".*"'),
    ('reason!~"quarantined:.*|unloaded by a call.*|not pulled:.*"', 'reason=~".*"'),
    ('code=~"INTERNAL|UNKNOWN|UNAVAILABLE|DATA_LOSS"', 'code=~".*"'),
)


@pytest.fixture(scope="module")
def targets() -> list[Target]:
    return make_targets()


@pytest.fixture(scope="module")
def mesh(
    tmp_path_factory: pytest.TempPathFactory, models_dir: Path, targets: list[Target]
) -> Iterator[RunningMesh]:
    """With a model unloaded, so that one is not ready."""
    state = make_state(tmp_path_factory.mktemp("mesh") / "state", models_dir)
    with running_mesh(state, environ={**make_environ(targets), **_ENVIRON}) as running:
        subprocess.run(
            [ROOT / ".venv/bin/sensorium", "models", "unload", "nlp/reuters"],
            env=running.environ(), check=True, timeout=60, capture_output=True,
        )  # fmt: skip
        yield running


@pytest.fixture(scope="module", autouse=True)
def traffic(mesh: RunningMesh, sample: Callable[[str], Path]) -> Iterator[None]:
    """Calls of all services, some of which fail, until the tests are over."""
    over, photo = threading.Event(), sample("cat").read_bytes()
    threads = [threading.Thread(target=_call, args=(mesh, over, photo, n == 0)) for n in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(30)


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, mesh: RunningMesh, targets: list[Target]
) -> Iterator[Prometheus]:
    with prometheus(tmp_path_factory.mktemp("prometheus"), targets) as running:
        yield running


def _call(mesh: RunningMesh, over: threading.Event, photo: bytes, everything: bool) -> None:
    options = {"metadata": mesh.metadata, "timeout": 10.0}
    with grpc.insecure_channel(mesh.address) as channel:
        nlp = nlp_service_pb2_grpc.NlpServiceStub(channel)
        vision = vision_service_pb2_grpc.VisionServiceStub(channel)
        speech = speech_service_pb2_grpc.SpeechServiceStub(channel)
        turn = 0
        while not over.is_set():
            turn += 1
            with contextlib.suppress(grpc.RpcError):
                nlp.EmbedText(nlp_service_pb2.EmbedTextRequest(texts=[f"The cat sleeps, {turn}."]), **options)
            with contextlib.suppress(grpc.RpcError):
                nlp.EmbedText(nlp_service_pb2.EmbedTextRequest(), **options)
            if everything:
                with contextlib.suppress(grpc.RpcError):
                    image = vision_service_pb2.Image(content=photo)
                    request = vision_service_pb2.ClassifyImageRequest(images=[image])
                    vision.ClassifyImage(request, **options)
                    # Too late before it is decoded.
                    vision.EmbedImage(
                        vision_service_pb2.EmbedImageRequest(images=[image] * 4),
                        **{**options, "timeout": 0.02},
                    )
                with contextlib.suppress(grpc.RpcError):
                    speech.DetectSpeech(speech_service_pb2.DetectSpeechRequest(), **options)


@pytest.mark.timeout(180)
async def test_everybody_is_asked(server: Prometheus, targets: list[Target]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(server.query("up == 1")) < len(targets):
            await asyncio.sleep(0.2)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("expression", list(read_dashboards()), ids=lambda one: one.place)
async def test_it_shows_something(server: Prometheus, expression: Expression) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not server.query(expression.text):
        assert time.monotonic() < deadline_s, expression.text
        await asyncio.sleep(0.2)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("expression", [*read_alerts(), *read_scalers()], ids=lambda one: one.place)
async def test_it_has_something_to_look_at(server: Prometheus, expression: Expression) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    watched = expression.measured
    for condition, any_ in _WATCHED:
        watched = watched.replace(condition, any_)
    while not server.query(watched):
        assert time.monotonic() < deadline_s, watched
        await asyncio.sleep(0.2)


@pytest.mark.timeout(180)
async def test_rules_are_evaluated_and_silent_where_all_is_well(server: Prometheus) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while any(rule["health"] == "unknown" for rule in _rules(server)):
            await asyncio.sleep(0.2)
    for rule in _rules(server):
        assert rule["health"] == "ok", rule
        if rule["name"] in _SILENT:
            assert rule["state"] == "inactive", rule


def _rules(server: Prometheus) -> list[dict[str, str]]:
    return [rule for group in server.get("rules")["groups"] for rule in group["rules"]]


def test_promtool_finds_nothing_wrong() -> None:
    done = subprocess.run(
        [find("promtool"), "check", "rules", str(ALERTS)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr + done.stdout


def test_scalers_take_a_quiet_minute_for_no_waiting(tmp_path: Path) -> None:
    """A quantile of no calls is no number, which an autoscaler could take for anything."""
    buckets = [
        f'sensorium_inference_queue_seconds_bucket{{namespace="sensorium", service="{service}", le="{bound}"}}'
        for service in SERVICES
        for bound in ("0.25", "1", "+Inf")
    ]
    quiet_after = [{"series": series, "values": "0+10x20 200x20"} for series in buckets]
    cases = [
        {"expr": scaler.text, "eval_time": at, "exp_samples": samples}
        for scaler in read_scalers()
        for at, samples in (("5m", [{"labels": "{}", "value": 0.2375}]), ("18m", []))
    ]
    assert cases
    file = tmp_path / "scalers_test.yaml"
    file.write_text(
        json.dumps({"tests": [{"interval": "30s", "input_series": quiet_after, "promql_expr_test": cases}]})
    )
    done = subprocess.run(
        [find("promtool"), "test", "rules", str(file)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr + done.stdout


def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    for file in (ALERTS, Path(__file__).with_name("alerts_test.yaml")):
        shutil.copy(file, tmp_path)
    command = [find("promtool"), "test", "rules", "alerts_test.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
