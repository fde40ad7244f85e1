"""The download cache: pinned archives under `<state>/cache`, fetched once, checked every time they are read.

Lives here: cache layout, atomic arrival, digests. Not here: how a registry's client is run (`registry`).
"""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cli.pull.archive import ArchiveError, file_sha256, read_members
from cli.pull.catalog import Source, parse_source
from cli.pull.lock import exclusive
from cli.pull.progress import Progress, Silence
from cli.pull.registry import download


def archive_path(source: Source, cache: Path) -> Path:
    """Where the archive of `source` is in `cache`, or would be."""
    return cache / source.sha256 / source.file


def fetch_archive(source: Source, cache: Path, progress: Progress | None = None) -> Path:
    """The archive of `source` in the folder `cache`, fetched unless it is there with the right digest.

    Safe beside other processes that fetch the same; an interrupted fetch leaves nothing that is ever read.

    Raises:
        FetchError: see `cli.pull.registry.download`.
        ArchiveError: what came does not have the pinned digest.
    """
    progress = progress or Silence()
    path = archive_path(source, cache)
    home = path.parent
    with exclusive(
        cache / "locks" / f"{source.sha256}.lock",
        waiting=lambda: progress.note(f"{source.label}: waiting for another process that fetches it"),
    ):
        if path.exists():
            if file_sha256(path) == source.sha256:
                return path
            path.unlink()
        # What a killed fetch left; the lock says that no other fetch runs.
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        try:
            with tempfile.TemporaryDirectory(prefix="fetch-", dir=home) as scratch:
                folder = Path(scratch) / "archive"
                folder.mkdir()
                fetched = download(source, folder, progress)
                got = file_sha256(fetched)
                if got != source.sha256:
                    expected = f"expected sha256 {source.sha256}, got {got}"
                    raise ArchiveError(f"{source.label}: {source.file}: {expected}")
                fetched.rename(path)
        finally:
            progress.end()
            if not path.exists():
                home.rmdir()
    return path


def fetch_members(
    source: Source | Mapping[str, object], cache: Path, progress: Progress | None = None
) -> dict[str, bytes]:
    """The pinned members of `source` (a `Source`, or a catalogue's `[[….source]]` table): path -> content.

    Raises:
        CatalogError: a table that is no source.
        FetchError, ArchiveError: as `fetch_archive`, or a member differs from its digest.
    """
    pinned = source if isinstance(source, Source) else parse_source(source)
    return read_members(fetch_archive(pinned, cache, progress), pinned.members)
