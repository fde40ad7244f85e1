"""What images are told to hold: models by the catalogue's digest, none that may not be passed on, a bill of materials.

Building them is `tests.images.scratch`'s business, or a container engine's.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from cli.pull.catalog import choose, read_catalogs
from cli.pull.image import bake, digest_entries, list_materials
from cli.pull.license import NotPassedOnError, refuse_fetch_only, why_not_passed_on
from cli.pull.progress import Silence
from deploy.docker.sbom import complete, find_installed
from shared.inference.artifact import read_artifact, verify
from shared.inference.signature import SignatureSettings, check_signature
from tests.images.scratch import read_steps

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"
TIMEOUT_S = 60.0
STEPS = read_steps(DOCKER / "tools.Dockerfile")
ARGUMENTS = dict(
    shlex.split(step.text)[0].partition("=")[::2] for step in STEPS if step.name == "ARG"
)  # the last of a name, all of which are the same
# Files that name the image of models.
NAMING = (
    "deploy/docker/tools.Dockerfile",
    "deploy/compose/compose.yaml",
    "deploy/kubernetes/base/replicas/deployment.yaml",
    "deploy/kubernetes/components/image-volume/kustomization.yaml",
    "deploy/kubernetes/overlays/production/kustomization.yaml",
)


def baking(without: str, catalog: str, out: Path, state: Path) -> subprocess.CompletedProcess[str]:
    """The Dockerfile's own command, with these arguments and folders."""
    (step,) = (step for step in STEPS if step.name == "RUN" and " models bake " in step.text)
    command = step.text.partition(" && ")[0].replace(".venv/bin/sensorium", "python -m cli")
    for name, value in {"CATALOG": catalog, "WITHOUT": without, "MODELS": "nlp vision"}.items():
        command = command.replace(f"${{{name}}}", value)
    words = [{"/image": str(out), "/state": str(state)}.get(word, word) for word in shlex.split(command)]
    return subprocess.run(
        [sys.executable, *words[1:]],
        cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


def test_every_file_names_the_digest_of_todays_catalogue() -> None:
    left_out = {entry.public_name for entry in choose(read_catalogs(ROOT), ARGUMENTS["WITHOUT"].split(","))}
    today = digest_entries([entry for entry in read_catalogs(ROOT) if entry.public_name not in left_out])
    old = ARGUMENTS["CATALOG"]
    assert today == old, f"models changed; name their image anew: sed -i s/{old}/{today}/ {' '.join(NAMING)}"
    for name in NAMING:
        found = re.findall(
            r"models[:\w, ]*?\b([0-9a-f]{12})\b|CATALOG\S*?\b([0-9a-f]{12})\b", (ROOT / name).read_text()
        )
        assert {one for pair in found for one in pair if one} == {today}, name


def test_the_build_refuses_by_name_what_may_not_be_passed_on(tmp_path: Path) -> None:
    done = baking("reuters", ARGUMENTS["CATALOG"], tmp_path / "image", tmp_path / "state")
    assert done.returncode == 1
    assert "nlp/topics: licence 'none stated' is not known to let weights be passed on" in done.stderr
    assert "vision/centerface: licence 'MIT', but its training data WIDER FACE" in done.stderr
    assert "nlp/reuters" not in done.stderr
    assert '--build-arg WITHOUT="topics,centerface"' in done.stderr
    assert not (tmp_path / "image").exists()
    assert not (tmp_path / "state").exists(), "nothing is fetched before"


@pytest.mark.parametrize("catalog", ["", "0123456789ab"])
def test_the_build_refuses_another_digest_than_its_tag(tmp_path: Path, catalog: str) -> None:
    done = baking(ARGUMENTS["WITHOUT"], catalog, tmp_path / "image", tmp_path / "state")
    assert done.returncode == 1
    assert f", not '{catalog}': tag the image models:" in done.stderr
    assert not (tmp_path / "image").exists()


def test_the_catalogues_models_are_left_out_for_their_licence_and_no_other_reason() -> None:
    refused = {
        entry.name
        for entry in read_catalogs(ROOT)
        if why_not_passed_on(entry.text("license"), entry.text("fetch_only"))
    }
    assert refused == set(ARGUMENTS["WITHOUT"].split(","))
    with pytest.raises(NotPassedOnError, match="reuters"):
        refuse_fetch_only(read_catalogs(ROOT))


@pytest.mark.parametrize(
    ("license_id", "fetch_only", "may"),
    [
        ("Apache-2.0", "", True),
        ("CC-BY-SA-3.0", "", True),
        ("none stated", "", False),
        ("", "", False),
        ("CC-BY-NC-4.0", "", False),
        ("apache", "", False),
        ("MIT", "its data is not free", False),
    ],
)
def test_only_licences_that_are_known_let_weights_be_passed_on(
    license_id: str, fetch_only: str, may: bool
) -> None:
    assert (why_not_passed_on(license_id, fetch_only) == "") is may


def test_an_image_holds_signed_artifacts_and_their_bill(tmp_path: Path) -> None:
    entries = choose(read_catalogs(ROOT), ["nlp/language", "digits"])  # shipped: nothing is fetched
    artifacts = bake(entries, tmp_path / "state", tmp_path / "image", Silence())
    trusted = SignatureSettings(trusted=(tmp_path / "image/models/trusted.jwks.json",), required=True)
    for entry in entries:
        artifact = read_artifact(tmp_path / "image/models" / entry.service / entry.name / entry.version)
        verify(artifact)
        check_signature(artifact, trusted)
    bill = json.loads((tmp_path / "image/sbom.cdx.json").read_text())
    assert bill == list_materials(entries, artifacts)
    assert bill["metadata"]["component"]["version"] == digest_entries(entries)
    assert [one["licenses"][0]["license"]["id"] for one in bill["components"]] == [
        "CC-BY-SA-4.0",
        "CC-BY-SA-3.0",
    ]
    assert not list((tmp_path / "image").rglob("*.pem")), "the private key stays where it was"


def test_a_bill_lists_what_is_installed_and_nothing_else() -> None:
    installed = dict(find_installed(Path(sys.prefix)))
    assert "grpcio" in installed
    grpcio = {
        "type": "library",
        "bom-ref": "grpcio-1",
        "name": "grpcio",
        "version": installed["grpcio"].version,
    }
    elsewhere = {"type": "library", "bom-ref": "colorama-1", "name": "colorama", "version": "0.4.6"}
    uvs: dict[str, object] = {
        "metadata": {},
        "components": [grpcio, {**grpcio, "bom-ref": "grpcio-0", "version": "0.1"}, elsewhere],
        "dependencies": [{"ref": "grpcio-1", "dependsOn": ["colorama-1"]}],
    }
    here = {"grpcio": installed["grpcio"], "pytest": distribution("pytest")}
    bill = complete(uvs, "sensorium/x", "1", here, [])
    assert [one["name"] for one in bill["components"]] == ["grpcio", "pytest"]
    assert bill["dependencies"][1] == {"ref": "grpcio-1", "dependsOn": []}
    grpcio["version"] = "1.0"
    with pytest.raises(SystemExit, match=r"grpcio: the lock has 1\.0, 0\.1, installed is"):
        complete(uvs, "sensorium/x", "1", here, [])


@pytest.mark.parametrize(
    "path",
    sorted(set(DOCKER.glob("*.Dockerfile")) - {DOCKER / "own-models.Dockerfile"}),
    ids=lambda path: path.name,
)
def test_every_image_holds_the_bill_of_its_own_extras(path: Path) -> None:
    text = path.read_text()
    (synced,) = set(
        re.findall(r"uv sync --frozen --no-cache (?:--inexact )?(--extra.*?)(?: \\|$)", text, re.M)
    )
    (exported,) = re.findall(r"uv export --frozen --quiet (--extra.*?) --format cyclonedx1.5", text)
    assert synced == exported
    assert "RUN /usr/bin/python3 deploy/sbom.py sensorium/" in text
