"""What each part may reach, checked by really importing it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared.inference.graphs import linear

ROOT = Path(__file__).parents[2]
ENTRY_POINTS = [
    "services.vision.__main__",
    "services.nlp.__main__",
    "services.speech.__main__",
    "gateway.__main__",
]
SERVICES = ["vision", "nlp", "speech"]

IMPORT = """
import importlib, sys
for name in {forbidden!r}:
    sys.modules[name] = None          # importing it now raises ImportError
importlib.import_module({module!r})
"""


def import_without(module: str, forbidden: list[str], cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    code = IMPORT.format(module=module, forbidden=forbidden)
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=60)


def test_torch_is_not_installed_here() -> None:
    assert import_without("torch", []).returncode != 0, "`make test` must prove that nothing needs torch"


@pytest.mark.parametrize("module", [*ENTRY_POINTS, "cli.__main__"])
def test_no_entry_point_reaches_training(module: str) -> None:
    rooms = ["shared.training", *(f"services.{name}.training" for name in SERVICES)]
    done = import_without(module, ["torch", "sklearn", "matplotlib", "onnxscript", *rooms])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ENTRY_POINTS)
def test_no_entry_point_reaches_torch_or_the_graph_tools(module: str) -> None:
    done = import_without(module, ["torch", "onnx"])
    assert done.returncode == 0, done.stderr


def test_the_gateway_reaches_no_model_and_no_domain() -> None:
    forbidden = [
        "shared.inference",
        "numpy",
        "onnxruntime",
        *(f"sensorium.{name}" for name in SERVICES),
        "services",
    ]
    done = import_without("gateway.__main__", forbidden)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_stands_without_the_others(service: str) -> None:
    others = [f"services.{name}" for name in SERVICES if name != service]
    done = import_without(f"services.{service}.__main__", others)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("deleted", SERVICES)
def test_deleting_a_service_breaks_no_import_elsewhere(deleted: str, tmp_path: Path) -> None:
    for part in ("services", "gateway", "shared", "cli"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.rmtree(tmp_path / "services" / deleted)
    rest = [f"services.{name}.__main__" for name in SERVICES if name != deleted]
    for module in [*rest, "gateway.__main__", "cli.__main__"]:
        done = import_without(module, [], cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_the_client_needs_neither_the_server_nor_the_tensor_stubs() -> None:
    forbidden = [
        "shared",
        "services",
        "gateway",
        "cli",
        "numpy",
        "PIL",
        "onnxruntime",
        "sensorium.oip",
        "pydantic",
        "typer",
    ]
    done = import_without("sensorium", forbidden)
    assert done.returncode == 0, done.stderr


OPEN = """
import importlib, sys
importlib.import_module({module!r})
import onnxruntime
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
"""


@pytest.mark.parametrize("module", ["shared", "services.speech", "tests.benchmarks"])
def test_onnx_runtime_reports_to_nobody(module: str, tmp_path: Path) -> None:
    graph = tmp_path / "graph.onnx"
    graph.write_bytes(linear().content)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    # Where one of these is set it reports nothing by itself, and this would prove nothing.
    silencers = {"ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "CI", "GITHUB_ACTIONS"}
    environ = {name: value for name, value in os.environ.items() if name not in silencers}
    done = subprocess.run(
        [sys.executable, "-c", OPEN.format(module=module), graph],
        cwd=ROOT,
        env={**environ, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    # What it would report is gathered in a session file there.
    assert list(scratch.iterdir()) == []
