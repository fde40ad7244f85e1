"""The manifests agree with each other, with the images and with the gateway's configuration.

What a cluster's own schemas say of them is checked with kustomize and kubernetes-validate, see deploy/README.md.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import read_mesh
from gateway.contract import MESH
from gateway.discovery.dns import REFRESH_S
from gateway.place import Run
from gateway.settings import GatewaySettings
from shared.rpc.settings import RpcSettings

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
DOCKER = ROOT / "deploy" / "docker"
SERVICES = ("vision", "nlp", "speech")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
# What `sensorium models digest` said when the images were last described: see test_images.
CATALOG = re.search(r"^ARG CATALOG=(.*)$", (DOCKER / "tools.Dockerfile").read_text(), re.M)[1]  # type: ignore[index]
FILES = sorted(
    path for path in KUBERNETES.rglob("*.yaml") if path.name not in ("mesh.yaml", "kustomization.yaml")
)


def read_all(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def pod_specs() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in FILES:
        for document in read_all(path):
            if document["kind"] in ("Deployment", "Job"):
                yield f"{path.parent.name}/{path.name}", document["spec"]["template"]["spec"]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", ()), *spec["containers"]]


PODS = [pytest.param(spec, id=name) for name, spec in pod_specs()]


def test_every_file_is_listed_where_it_lies() -> None:
    for path in FILES:
        listed = yaml.safe_load((path.parent / "kustomization.yaml").read_text())["resources"]
        assert path.name in listed, path
    for path in KUBERNETES.rglob("kustomization.yaml"):
        for name in yaml.safe_load(path.read_text()).get("resources", ()):
            assert (path.parent / name).exists(), f"{path}: {name}"


@pytest.mark.parametrize("spec", PODS)
def test_pods_are_confined(spec: dict[str, Any]) -> None:
    assert spec["automountServiceAccountToken"] is False
    security = spec["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == security["fsGroup"] == 65532
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(spec):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"requests", "limits"} <= container["resources"].keys()
    for volume in spec["volumes"]:
        if "emptyDir" in volume:
            assert volume["emptyDir"]["sizeLimit"], "a folder without a bound could fill the node"


@pytest.mark.parametrize("spec", PODS)
def test_images_are_ours_and_of_this_version(spec: dict[str, Any]) -> None:
    for container in containers(spec):
        name, _, tag = container["image"].partition(":")
        assert name in {"sensorium/gateway", "sensorium/service", "sensorium/models", "sensorium/training"}
        assert tag == CATALOG if name == "sensorium/models" else tag.split("-")[0] == VERSION


# What a process needs to end, after the calls in flight have had their time.
CLOSING_S = 5.0
DRAINS_S = {
    "gateway": GatewaySettings().drain_timeout_s,
    "replica": RpcSettings().drain_notice_s + RpcSettings().drain_timeout_s,
}


def deployments() -> dict[str, dict[str, Any]]:
    """Of the base, by what they are: `gateway`, `replica`."""
    return {
        document["metadata"]["labels"]["app.kubernetes.io/component"]: document["spec"]
        for folder in ("gateway", "replicas")
        for document in read_all(KUBERNETES / "base" / folder / "deployment.yaml")
    }


@pytest.mark.parametrize("component", sorted(DRAINS_S))
def test_a_drain_fits_into_the_time_a_pod_has_to_end(component: str) -> None:
    spec = deployments()[component]["template"]["spec"]
    (container,) = spec["containers"]
    before_s = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert spec["terminationGracePeriodSeconds"] >= before_s + DRAINS_S[component] + CLOSING_S
    # The cluster's proxies go on sending to a gateway until they have heard; replicas tell the gateways themselves.
    assert (before_s >= 5) is (component == "gateway")


def test_a_drain_fits_into_the_time_a_container_has_to_end() -> None:
    services = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())["services"]
    for name in ("gateway", *SERVICES):
        grace = re.fullmatch(r"(\d+)s", services[name]["stop_grace_period"])
        assert grace
        assert int(grace[1]) >= DRAINS_S.get(name, DRAINS_S["replica"]) + CLOSING_S


@pytest.mark.parametrize("component", sorted(DRAINS_S))
def test_a_rollout_takes_none_away_before_the_next_one_is_in_rotation(component: str) -> None:
    spec = deployments()[component]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    # Found by name, asked for its health, and told to Envoy.
    checks = read_mesh(KUBERNETES / "base" / "gateway" / "mesh.yaml").mesh.health_checks
    assert spec["minReadySeconds"] >= REFRESH_S + checks.interval_s + 1
    (container,) = spec["template"]["spec"]["containers"]
    startup = container["startupProbe"]
    # Envoy's start; or models that are loaded and proven, on a busy node.
    needed_s = GatewaySettings().start_timeout_s if component == "gateway" else 60
    assert startup["periodSeconds"] * startup["failureThreshold"] >= needed_s
    ready, alive = container["readinessProbe"], container["livenessProbe"]
    assert (
        ready["periodSeconds"] * ready["failureThreshold"]
        < alive["periodSeconds"] * alive["failureThreshold"]
    ), "it is taken out of rotation before it is restarted"


def test_a_gateway_without_replicas_is_waited_for() -> None:
    """With its own health every first installation and every outage of the replicas would restart it again and again."""
    (container,) = deployments()["gateway"]["template"]["spec"]["containers"]
    assert container["startupProbe"]["grpc"] == {"port": 8080, "service": MESH}
    assert container["readinessProbe"]["grpc"] == {"port": 8080}
    alive = container["livenessProbe"]
    # Not by the port, which refuses calls when there are too many.
    command = alive["exec"]["command"]
    state = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}["state"]
    control = Run(Path(state) / "run" / "gateway").places.control
    assert command[:5] == ["python", "-m", "shared.rpc.probe", f"unix:{control}", MESH]
    assert float(command[command.index("--timeout") + 1]) < alive["timeoutSeconds"]


def test_an_eviction_takes_one_of_several() -> None:
    for folder, spec in (("gateway", deployments()["gateway"]), ("replicas", deployments()["replica"])):
        (budget,) = read_all(KUBERNETES / "base" / folder / "disruption.yaml")
        (autoscaler,) = read_all(KUBERNETES / "base" / folder / "autoscaler.yaml")
        assert budget["spec"]["maxUnavailable"] < autoscaler["spec"]["minReplicas"]
        assert budget["spec"]["selector"] == spec["selector"]
        assert "replicas" not in spec, "a number there would undo the autoscaler's at every apply"


def test_scaling_by_waiting_time_goes_up_and_down_as_by_cpu() -> None:
    (base,) = read_all(KUBERNETES / "base" / "replicas" / "autoscaler.yaml")
    scalers = read_all(KUBERNETES / "components" / "queue-autoscaling" / "scalers.yaml")
    assert {one["metadata"]["name"] for one in scalers} == {f"{name}-replicas" for name in SERVICES}
    for scaler in scalers:
        spec = scaler["spec"]
        assert spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == base["spec"]["behavior"]
        # Without Prometheus none of those that carry a load may go.
        assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"
        assert spec["fallback"]["replicas"] >= spec["minReplicaCount"]


def test_the_gateway_looks_for_the_services_that_there_are() -> None:
    mesh = read_mesh(KUBERNETES / "base" / "gateway" / "mesh.yaml").mesh
    (headless,) = read_all(KUBERNETES / "base" / "replicas" / "service.yaml")
    assert headless["spec"]["clusterIP"] == "None"
    assert headless["spec"]["publishNotReadyAddresses"] is True
    port = {one["name"]: one["port"] for one in headless["spec"]["ports"]}["grpc"]
    assert {service.name: service.dns for service in mesh.services} == {
        name: f"{name}-{headless['metadata']['name']}:{port}" for name in SERVICES
    }
    for name in SERVICES:
        kustomization = yaml.safe_load((KUBERNETES / "base" / name / "kustomization.yaml").read_text())
        assert kustomization["namePrefix"] == f"{name}-"
        patch = {one["path"]: one["value"] for one in yaml.safe_load(kustomization["patches"][0]["patch"])}
        assert patch["/spec/template/spec/containers/0/args"] == [f"services.{name}"]
        (variable,) = patch["/spec/template/spec/containers/0/env"]
        assert variable["name"] == f"SENSORIUM_{name.upper()}_INFERENCE__CORES"


def test_ports_are_those_of_the_images() -> None:
    exposed = {
        name: set(re.search(r"^EXPOSE (.*)$", (DOCKER / name).read_text(), re.M)[1].split())  # type: ignore[index]
        for name in ("gateway.Dockerfile", "service-cpu.Dockerfile")
    }
    for path, image in (("replicas", "service-cpu.Dockerfile"), ("gateway", "gateway.Dockerfile")):
        (deployment,) = read_all(KUBERNETES / "base" / path / "deployment.yaml")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert {str(port["containerPort"]) for port in container["ports"]} <= exposed[image]


def test_only_the_gateway_prometheus_and_labelled_pods_reach_replicas() -> None:
    policies = {
        one["metadata"]["name"]: one["spec"] for one in read_all(KUBERNETES / "base" / "network.yaml")
    }
    assert policies["nobody"]["policyTypes"] == ["Ingress", "Egress"]
    assert not policies["nobody"].get("ingress")
    assert not policies["nobody"].get("egress")
    callers, scrapers = policies["replicas"]["ingress"]
    assert [one["podSelector"]["matchLabels"] for one in callers["from"]] == [
        {"app.kubernetes.io/component": "gateway"},
        {"sensorium.dev/internal-client": "true"},
    ]
    assert scrapers["ports"] == [{"port": "metrics"}]


def test_whoever_may_ask_for_names_may_ask_all_that_clusters_have() -> None:
    asked = {
        document["metadata"]["name"]: rule
        for path in FILES
        for document in read_all(path)
        if document["kind"] == "NetworkPolicy"
        for rule in document["spec"].get("egress", ())
        if any(port["port"] == 53 for port in rule.get("ports", ()))
    }
    assert asked.keys() == {"gateway", "traces", "training"}
    for rule in asked.values():
        # On the last of these addresses clouds also tell secrets, by HTTP.
        assert rule["ports"] == [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
        pods, *blocks = rule["to"]
        assert pods["namespaceSelector"] == {}
        (label,) = pods["podSelector"]["matchExpressions"]
        assert (label["key"], label["values"]) == ("k8s-app", ["kube-dns", "node-local-dns"])
        assert [one["ipBlock"]["cidr"] for one in blocks] == ["169.254.20.10/32", "169.254.169.254/32"]


@pytest.mark.parametrize("path", sorted(DOCKER.glob("*.Dockerfile")), ids=lambda path: path.name)
def test_images_end_as_nobody_special(path: Path) -> None:
    stages = re.split(r"^FROM ", path.read_text(), flags=re.M)[1:]
    assert "\nUSER 65532:65532\n" in stages[-1]
    assert path.name == "own-models.Dockerfile" or "uv sync --frozen" in path.read_text()
