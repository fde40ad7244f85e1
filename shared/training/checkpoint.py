"""Checkpoints on disk: `last.pt`, the newest, and `best.pt`, the one with the best metric so far.

A file appears whole or not at all, so that neither SIGKILL nor a full disk nor a power cut takes the one of before;
checksums tell a damaged one. What goes into a checkpoint is `fit`'s.
"""

from __future__ import annotations

import io
import pickle
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from shared.files import write_atomically
from shared.training.errors import CheckpointError

LAST, BEST = "last.pt", "best.pt"
# Of what lies in a checkpoint; another one is refused.
FORMAT = 1


def save(folder: Path, state: Mapping[str, Any], *, best: bool) -> None:
    """Writes `state` (tensors, plain values and containers of them) as the last checkpoint, and as the best one if `best`.

    Raises:
        CheckpointError: it cannot be written; those of before are still there, whole.
    """
    content = io.BytesIO()
    torch.save({"format": FORMAT, **state}, content)
    # The best one first: whoever is killed in between goes on from the last one and makes the same best one again. Written
    # twice and not linked: what damages one file leaves the other.
    for path in [folder / BEST, folder / LAST] if best else [folder / LAST]:
        try:
            write_atomically(path, content.getvalue(), durable=True)
        except OSError as error:
            raise CheckpointError(_describe_failure(path, error, len(content.getvalue()))) from error


def read(folder: Path) -> tuple[bytes, str] | None:
    """The newest whole checkpoint's bytes and a remark, which is empty unless a damaged one was passed over.

    None without any checkpoint.

    Raises:
        CheckpointError: there are checkpoints, and all are damaged.
    """
    damages: list[str] = []
    for name in (LAST, BEST):
        path = folder / name
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
        damage = find_damage(content)
        if damage is None:
            passed = f"{'; '.join(damages)}; going on from {path}" if damages else ""
            return content, passed
        damages.append(f"{path}: {damage}")
    if damages:
        raise CheckpointError(f"{'; '.join(damages)}; start again with --fresh")
    return None


def read_best(folder: Path) -> bytes:
    """The best checkpoint's bytes.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    path = folder / BEST
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read: {error.strerror}; start again with --fresh"
        ) from error
    damage = find_damage(content)
    if damage is not None:
        raise CheckpointError(f"{path}: {damage}; start again with --fresh")
    return content


def decode(content: bytes) -> dict[str, Any]:
    """What `save` was given, with tensors on the CPU.

    Raises:
        CheckpointError: it is of another format.
    """
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"expected a checkpoint, got a file that torch cannot load ({reason}); start again with --fresh"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(
            f"expected a checkpoint of format {FORMAT}, got {found}; start again with --fresh"
        )
    return state


def find_damage(content: bytes) -> str | None:
    """What is wrong with a checkpoint file's bytes, None if nothing: torch itself does not look at the checksums."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            member = archive.testzip()
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        return f"damaged ({error})"
    return None if member is None else f"damaged ({member} does not match its checksum)"


def clear(folder: Path, *, checkpoints: bool) -> None:
    """Removes what a killed process left half written and, with `checkpoints`, the checkpoints themselves."""
    for name in (LAST, BEST, "curves.csv"):
        for left in folder.glob(f".{name}.*"):
            left.unlink(missing_ok=True)
        if checkpoints:
            (folder / name).unlink(missing_ok=True)


def _describe_failure(path: Path, error: OSError, size: int) -> str:
    kept = [name for name in (LAST, BEST) if (path.parent / name).exists()]
    still = f"{' and '.join(kept)} of before still there" if kept else "there is none of before"
    try:
        free = f"{shutil.disk_usage(path.parent).free / 1e6:.1f} MB free"
    except OSError:
        free = "free space unknown"
    return (
        f"{path}: cannot write a checkpoint of {size / 1e6:.1f} MB: {error.strerror} ({free}); {still}: "
        "make room and run the same command again"
    )
