"""Where the tools of `make check-deploy` are, and what they are given to look at."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TOOLS = ROOT / ".venv-deploy" / "bin"
TIMEOUT_S = 120.0


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """One of the tools, from the root of the checkout; what it says is whoever calls's to read."""
    return subprocess.run(
        [TOOLS / command[0], *command[1:]],
        cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What `kubectl kustomize` makes of every overlay, and of production with every component: name -> file."""
    folder = tmp_path_factory.mktemp("built")
    kubernetes = ROOT / "deploy" / "kubernetes"
    places = {path.name: path for path in sorted((kubernetes / "overlays").iterdir())}
    for component in sorted((kubernetes / "components").iterdir()):
        place = folder / "with" / component.name
        place.mkdir(parents=True)
        places[f"production with {component.name}"] = place
        up = "/".join([".."] * len(place.relative_to("/").parts))
        (place / "kustomization.yaml").write_text(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: sensorium\n"
            f"resources: [{up}{kubernetes}/overlays/production]\ncomponents: [{up}{component}]\n"
        )
    files = {}
    for name, place in places.items():
        done = run("kubectl", "kustomize", "--load-restrictor=LoadRestrictionsNone", place)
        assert done.returncode == 0, f"{name}: {done.stderr}"
        files[name] = folder / f"{name.replace(' ', '-')}.yaml"
        files[name].write_text(done.stdout)
    return files
