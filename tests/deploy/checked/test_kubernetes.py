"""The manifests are valid where they are to run, and hold to policies, but for what is explained here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.deploy.checked.conftest import run

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
