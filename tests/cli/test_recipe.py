"""The digest of a recipe: what changes it and what does not."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.pull.catalog import read_catalogs
from cli.pull.recipe import digest_recipe

ROOT = Path(__file__).parents[2]
Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes files of a package `kitchen` that can be found, with a recipe in it."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, content: str) -> None:
        path = tmp_path / "kitchen" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    write("stew.py", "from kitchen.models import knife\nfrom . import pot\n\ndef build(members): ...\n")
    write(
        "models/knife.py", "import kitchen.models.steel\nimport json, numpy\nraise SystemExit('never run')\n"
    )
    write("models/steel.py", "")
    write("pot.py", "def cook():\n    from shared.inference.weights import fill_graph\n")
    write("spoon.py", "from kitchen import stew\n")
    return write


@pytest.mark.parametrize(
    "name",
    ["stew.py", "stew.golden.npz", "models/knife.py", "models/steel.py", "models/steel.table.json", "pot.py"],
)
def test_what_it_is_made_of_changes_it(write: Write, name: str) -> None:
    before = digest_recipe("kitchen.stew")
    assert digest_recipe("kitchen.stew") == before
    write(name, "value = 1\n")
    assert digest_recipe("kitchen.stew") != before


@pytest.mark.parametrize("name", ["spoon.py", "models/fork.py", "catalog.toml", "stewed.py"])
def test_what_it_does_not_import_leaves_it(write: Write, name: str) -> None:
    before = digest_recipe("kitchen.stew")
    write(name, "value = 1\n")
    assert digest_recipe("kitchen.stew") == before


def test_modules_that_import_each_other_are_read_once(write: Write) -> None:
    write("models/steel.py", "from kitchen import stew\n")
    assert len(digest_recipe("kitchen.stew")) == 64


def test_nothing_is_imported(write: Write) -> None:
    digest_recipe("kitchen.stew")
    assert not [name for name in sys.modules if name.startswith("kitchen")]


def test_damage_in_what_it_imports_is_said(write: Write) -> None:
    write("models/steel.py", "def (:")
    with pytest.raises(SyntaxError, match="steel"):
        digest_recipe("kitchen.stew")


@pytest.mark.parametrize("name", ["kitchen.nothing", "nothing", "kitchen.stew.more", "json.nothing"])
def test_a_module_that_is_not_there(write: Write, name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=name):
        digest_recipe(name)


@pytest.mark.parametrize(
    ("edited", "recipes"),
    [
        ("services/vision/models/rewriting.py", {"centernet", "pp_ocr"}),
        ("services/vision/models/signature.py", {"centernet", "pp_ocr", "centerface"}),
        ("shared/inference/weights.py", {"centernet", "efficientnet", "resemblyzer", "sentiment"}),
        ("shared/inference/torch_file.py", {"centernet", "efficientnet", "resemblyzer", "sentiment"}),
        ("shared/inference/artifact.py", set()),
        ("shared/inference/session/session.py", set()),
        ("services/vision/models/catalog.toml", set()),
    ],
)
def test_an_edit_makes_the_models_anew_that_it_touches(
    tmp_path: Path, edited: str, recipes: set[str]
) -> None:
    """On a copy of the recipes that is found before the checkout."""
    for folder in ("services", "shared"):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                copy = tmp_path / file.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(file.read_bytes())
    names = [entry.recipe for entry in read_catalogs(ROOT) if entry.recipe]
    before = digest_in_process_of_its_own(tmp_path, names)
    assert before == [digest_recipe(name) for name in names]
    with (tmp_path / edited).open("a") as stream:
        stream.write("# edited\n")
    after = digest_in_process_of_its_own(tmp_path, names)
    changed = {name for name, old, new in zip(names, before, after, strict=True) if old != new}
    assert {name.rpartition(".")[2] for name in changed} == recipes


def digest_in_process_of_its_own(first_path: Path, names: list[str]) -> list[str]:
    script = "import sys; from cli.pull.recipe import digest_recipe; print(*map(digest_recipe, sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", script, *names],
        env={**os.environ, "PYTHONPATH": f"{first_path}{os.pathsep}{ROOT}"},
        cwd=first_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.split()
