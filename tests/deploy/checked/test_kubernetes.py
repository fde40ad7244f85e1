"""The manifests are valid where they are to run, and hold to policies, but for what is explained here."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from pathlib import Path

import pytest
import yaml

from tests.deploy.checked.conftest import ROOT, run

# The newest three that kubernetes-validate has the schemas of.
MINORS = ("1.35", "1.36", "1.37")
# Kinds that operators add: their schemas are not Kubernetes'.
FOREIGN = {"Gateway", "HTTPRoute", "ServiceMonitor", "PodMonitor", "PrometheusRule", "ScaledObject"}
# Policies that do not hold, and why not.
EXPLAINED = {
    "CKV_K8S_43": "images are named by tag: digests are your registry's, and belong into your overlay's `images`",
    "CKV_K8S_15": "images are pulled where they are missing: tags are never moved, and a pod starts without the registry",
}


@pytest.mark.parametrize("minor", MINORS)
def test_every_manifest_is_valid(built: dict[str, Path], minor: str, tmp_path: Path) -> None:
    for name, path in built.items():
        own = [
            part
            for part in path.read_text().split("\n---\n")
            if not any(f"\nkind: {kind}\n" in f"\n{part}" for kind in FOREIGN)
        ]
        assert own
        file = tmp_path / path.name
        file.write_text("\n---\n".join(own))
        done = run("kubernetes-validate", "--strict", "--kubernetes-version", minor, file)
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"


def test_the_overlay_of_the_handbook_puts_everything_into_one_namespace(tmp_path: Path) -> None:
    handbook = (ROOT / "deploy" / "operations.md").read_text().splitlines()
    end = handbook.index(
        "    kubectl -n sensorium create secret tls sensorium-tls --cert=tls.crt --key=tls.key"
    )
    begin = max(number for number, line in enumerate(handbook[:end]) if line[:1].strip()) + 1
    shutil.copytree(ROOT / "deploy" / "kubernetes", tmp_path / "kubernetes")
    overlay = tmp_path / "kubernetes" / "overlays" / "yours"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(textwrap.dedent("\n".join(handbook[begin:end])))
    done = run("kubectl", "kustomize", overlay)
    assert done.returncode == 0, done.stderr
    made = [part for part in yaml.safe_load_all(done.stdout) if part]
    assert {"Gateway", "HTTPRoute"} < {part["kind"] for part in made}
    for part in made:
        if part["kind"] != "Namespace":
            assert part["metadata"].get("namespace") == "sensorium", (part["kind"], part["metadata"]["name"])
    (gateway,) = (part for part in made if part["kind"] == "Gateway")
    assert gateway["spec"]["listeners"][0]["hostname"] == "mesh.example.com"


def test_names_are_asked_elsewhere_as_the_handbook_says(tmp_path: Path) -> None:
    handbook = (ROOT / "deploy" / "README.md").read_text()
    (patches,) = re.findall(r"\n(    patches:\n(?:    .*\n)*?)\n", handbook)
    shutil.copytree(ROOT / "deploy" / "kubernetes", tmp_path / "kubernetes")
    overlay = tmp_path / "kubernetes" / "overlays" / "yours"
    overlay.mkdir()
    text = f"namespace: sensorium\nresources: [../production]\n{textwrap.dedent(patches)}"
    (overlay / "kustomization.yaml").write_text(text)
    done = run("kubectl", "kustomize", overlay)
    assert done.returncode == 0, done.stderr
    (policy,) = (
        part
        for part in yaml.safe_load_all(done.stdout)
        if part["kind"] == "NetworkPolicy" and part["metadata"]["name"] == "gateway"
    )
    ports = [{port["port"] for port in rule["ports"]} for rule in policy["spec"]["egress"]]
    assert ports == [{50051}, {53}, {5353}]
    made = tmp_path / "made.yaml"
    made.write_text(yaml.safe_dump(policy))
    done = run("kubernetes-validate", "--strict", "--kubernetes-version", MINORS[-1], made)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_misspelt_field_is_found(built: dict[str, Path], tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    text = built["dev"].read_text()
    wrong.write_text(text.replace("readinessProbe:", "readynessProbe:", 1))
    assert wrong.read_text() != text
    assert run("kubernetes-validate", "--strict", "--kubernetes-version", MINORS[-1], wrong).returncode != 0


@pytest.mark.timeout(300)
def test_policies_hold_but_for_what_is_explained(built: dict[str, Path]) -> None:
    found = {}
    for name in ("production", "gpu", "production with tls", "production with training"):
        done = run(
            "checkov", "--file", built[name], "--framework", "kubernetes", "--compact", "--quiet", "--output", "json"
        )  # fmt: skip
        report = json.loads(done.stdout)
        assert report["summary"]["passed"] > 300, name
        for failed in report["results"]["failed_checks"]:
            found[failed["check_id"]] = f"{name}: {failed['check_name']}: {failed['resource']}"
    assert found.keys() == EXPLAINED.keys(), found
