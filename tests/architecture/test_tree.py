"""House rules about the tracked tree: sizes, words and places."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOP_LEVEL = {
    ".ci", ".dockerignore", ".gitignore", "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "cli", "clients", "deploy",
    "gateway", "protos", "pyproject.toml", "services", "shared", "tests", "uv.lock",
}  # fmt: skip
TRAINED = {"sentiment", "topics", "reuters", "spam", "language", "digits", "commands", "sounds"}
WEIGHTS = {".onnx", ".ort", ".npz", ".bin", ".pt", ".pth"}
MAX_WEIGHT_FILE, MAX_WEIGHTS = 4 << 20, 10 << 20


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, timeout=30)
    return [Path(name) for name in listed.stdout.decode().split("\0") if name and (ROOT / name).exists()]


def test_nothing_else_lies_at_the_top() -> None:
    assert {path.parts[0] for path in tracked()} <= TOP_LEVEL


def test_weights_belong_into_packages() -> None:
    sizes = {path: (ROOT / path).stat().st_size for path in tracked() if path.suffix in WEIGHTS}
    assert max(sizes.values()) <= MAX_WEIGHT_FILE
    assert sum(sizes.values()) <= MAX_WEIGHTS


def test_no_registry_host_and_no_path_of_a_machine() -> None:
    forbidden = re.compile(r"https?://[a-z.-]*(?:pypi|npm|debian|pythonhosted)[a-z.-]*|/(?:roo[t]|wor[k])/")
    found = []
    for path in tracked():
        if path.suffix in WEIGHTS | {".lock", ".binpb", ".png", ".jpg", ".wav"}:
            continue
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1):
            if forbidden.search(line):
                found.append(f"{path}:{number}")
    assert not found


def test_broad_excepts_are_few() -> None:
    broad = re.compile(r"except(?:\s+(?:Exception|BaseException)\b[^:]*)?:")
    sources = [path for path in tracked() if path.suffix == ".py" and "_pb2" not in path.name]
    found = [
        f"{path}:{number}"
        for path in sources
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1)
        if broad.search(line.split("#")[0].strip()) and path.parts[0] != "tests"
    ]
    assert len(found) <= 3, found


def imported(path: Path) -> set[str]:
    """Dotted names of everything that a file imports, at its top or inside its functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def is_for_training(path: Path) -> bool:
    """Files that may ask for torch: training itself, its tests, and the measurements of what it makes."""
    parts = path.parts
    return parts[:2] in {("shared", "training"), ("tests", "training"), ("tests", "quality")} or (
        parts[0] == "services" and parts[2:3] == ("training",)
    )


@pytest.mark.parametrize("library", ["torch", "sklearn", "matplotlib", "onnxscript"])
def test_what_trains_is_imported_only_where_training_is(library: str) -> None:
    sources = [path for path in tracked() if path.suffix == ".py" and not is_for_training(path)]
    found = [path for path in sources if any(name.split(".")[0] == library for name in imported(path))]
    assert not found


def test_torch_is_imported_by_what_trains() -> None:
    """The rule above would hold of a tree in which it finds nothing at all."""
    assert "torch" in imported(Path("shared/training/fit.py"))


def test_what_serves_knows_nothing_of_training() -> None:
    training = re.compile(r"(?:shared|services\.\w+)\.training(?:\.|$)")
    sources = [
        path
        for path in tracked()
        if path.suffix == ".py"
        and path.parts[0] in {"gateway", "services", "shared", "clients"}
        and not is_for_training(path)
    ]
    found = [path for path in sources if any(training.match(name) for name in imported(path))]
    assert not found


def test_training_s_tests_run_on_their_own_and_after_the_others() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert "tests/training" in settings["norecursedirs"]
    steps = re.findall(r"^(?:make|twice) (\S+)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert steps == ["lint", "test", "test-training", "check-deploy"]


def test_every_training_that_make_starts_is_there() -> None:
    found = re.findall(r"^train-([a-z]+): MODULE := ([\w.]+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {name for name, _ in found} == TRAINED
    missing = [module for _, module in found if not (ROOT / (module.replace(".", "/") + ".py")).is_file()]
    assert not missing


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    assert not [path for path in tracked() if path.name in drawers]
