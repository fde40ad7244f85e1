"""Dockerfiles and the compose file, by the tools that others read them with; bills of materials, by their schema."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urljoin

import jsonschema
import pytest
import yaml
from referencing import Registry, Resource

from cli.pull.catalog import choose, read_catalogs
from cli.pull.image import list_materials
from deploy.docker.sbom import complete, find_installed, list_debian
from shared.inference.artifact import read_artifact
from tests.deploy.checked.conftest import ROOT, TIMEOUT_S, TOOLS, run

DOCKERFILES = sorted((ROOT / "deploy" / "docker").glob("*.Dockerfile"))
COMPOSE = ROOT / "deploy" / "compose" / "compose.yaml"
# Policies that do not hold, and why not: images that serve nothing have no health to ask for.
EXPLAINED = {"CKV_DOCKER_2": {"/own-models.Dockerfile", "/tools.Dockerfile", "/training.Dockerfile"}}


def test_dockerfiles_hold_to_good_practice() -> None:
    done = run("hadolint", *DOCKERFILES)
    assert done.returncode == 0, done.stdout


def test_dockerfiles_hold_to_policies() -> None:
    done = run(
        "checkov", "--directory", "deploy/docker", "--framework", "dockerfile", "--compact", "--quiet", "--output", "json"
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 500
    found: dict[str, set[str]] = {}
    for failed in report["results"]["failed_checks"]:
        found.setdefault(failed["check_id"], set()).add(failed["file_path"])
    assert found == EXPLAINED


def compose(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Docker Compose itself; `config` reads a file as `up` would, and needs no engine."""
    (binary,) = TOOLS.parent.glob("lib/python*/site-packages/compose/docker-compose")
    return subprocess.run(
        [binary, *words], cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )  # fmt: skip


@pytest.mark.skipif(
    sys.platform != "linux", reason="the package holds Docker Compose for Linux on x86_64 alone"
)
def test_compose_takes_the_file_with_every_profile(tmp_path: Path) -> None:
    done = compose("--file", COMPOSE, "--profile", "*", "config")
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert services.keys() == yaml.safe_load(COMPOSE.read_text())["services"].keys()
    wrong = tmp_path / "compose.yaml"
    wrong.write_text("services: {a: {image: b, read_onyl: true}}")
    assert "read_onyl" in compose("--file", wrong, "config").stderr


def cyclonedx() -> jsonschema.Draft7Validator:
    """CycloneDX 1.5 with the schemas that it refers to."""
    (folder,) = TOOLS.parent.glob("lib/python*/site-packages/cyclonedx/schema/_res")
    names = [f"{name}.SNAPSHOT.schema.json" for name in ("bom-1.5", "spdx", "jsf-0.82")]
    documents = {name: json.loads((folder / name).read_text()) for name in names}
    registry: Registry[object] = Registry().with_resources(
        (urljoin(documents[names[0]]["$id"], name), Resource.from_contents(document))
        for name, document in documents.items()
    )
    return jsonschema.Draft7Validator(documents[names[0]], registry=registry)


def test_bills_of_images_follow_the_schema() -> None:
    exported = subprocess.run(
        [ROOT / ".venv-uv/bin/uv", "--preview-features", "package-conflicts,sbom-export", "export", "--frozen", "--quiet",
         "--extra", "services", "--extra", "cpu", "--format", "cyclonedx1.5"],
        cwd=ROOT, check=True, capture_output=True, text=True, timeout=TIMEOUT_S,
    ).stdout  # fmt: skip
    installed = dict(find_installed(Path(sys.prefix)))
    debian = list_debian() if Path("/usr/bin/dpkg-query").exists() else []
    bill = complete(json.loads(exported), "sensorium/service", "0.1.0-cpu", installed, debian)
    assert {one["name"] for one in bill["components"]} >= {"onnxruntime", "grpcio"}
    cyclonedx().validate(bill)
    bill["components"][0]["type"] = "thing"
    with pytest.raises(jsonschema.ValidationError):
        cyclonedx().validate(bill)


def test_bills_of_models_follow_the_schema() -> None:
    entries = choose(read_catalogs(ROOT), ["spam", "language", "digits", "commands"])
    cyclonedx().validate(list_materials(entries, [read_artifact(entry.shipped_folder) for entry in entries]))
