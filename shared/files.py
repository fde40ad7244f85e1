"""Files as they should be: those that others read while they are written appear whole, those that are read are files."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from io import BufferedReader
from pathlib import Path


def write_atomically(
    path: Path, content: str | bytes, *, mode: int | None = None, durable: bool = False
) -> None:
    """Puts `content` at `path` at once and whole, by a rename within the folder, which must be there. Text becomes UTF-8.

    Readers see the file of before or this one, and whoever lists the folder had better pass over names that begin with a
    dot. mode: permissions; None = what the umask leaves. durable: wait until the disk has it, so that a power cut cannot
    leave an empty file and a file system that writes late says here that it is full.

    Raises:
        OSError: the file cannot be written; the one of before is still there.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(temporary, flags, 0o666 if mode is None else mode), "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if mode is not None:
            # Whatever the umask took away.
            temporary.chmod(mode)
        temporary.replace(path)
    finally:
        # After the rename there is nothing of that name.
        temporary.unlink(missing_ok=True)


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading, if it is one: a pipe would hold who opens it, and a device may never end.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return os.fdopen(descriptor, "rb")
