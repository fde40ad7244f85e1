"""Pulling many models: each ends well or not without stopping the others."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.failure import CommandError
from cli.place import cache_dir
from cli.pull.build import artifact_folder, pull, why_not_made
from cli.pull.catalog import Entry
from cli.pull.fetch import archive_path
from cli.pull.progress import Progress
from cli.pull.registry import NpmMissing, Offline


@dataclass(frozen=True)
class Outcome:
    """How the pull of one model ended: `pulled`, `present`, `skipped` or `failed`, and why if not well."""

    model: str
    version: str
    state: str
    reason: str
    bytes: int
    seconds: float


def run(
    entries: Sequence[Entry], state: Path, progress: Progress, *, force: bool, named: bool
) -> list[Outcome]:
    """Pulls each of `entries`, telling `progress`; `named`: the user asked for them by name, so none may be skipped.

    Once a registry cannot be reached, models that would need it are not tried again one by one.
    """
    outcomes = []
    unreachable: dict[str, Offline] = {}
    for entry in entries:
        started_s = time.monotonic()
        ended, reason = "present", ""
        try:
            _refuse_unreachable(entry, state, unreachable, force=force)
            if pull(entry, state, progress, force=force):
                ended = "pulled"
        except NpmMissing as error:
            ended, reason = ("failed" if named else "skipped"), str(error)
            what = "cannot be pulled" if named else "is skipped"
            progress.note(f"{entry.public_name} {what}: {reason}")
        except Offline as error:
            ended, reason = "failed", str(error)
            if error.registry not in unreachable:
                progress.note(reason)
            unreachable[error.registry] = error
        except CommandError as error:
            ended, reason = "failed", str(error)
            progress.note(reason)
        folder = artifact_folder(entry, state)
        size = sum(path.stat().st_size for path in folder.iterdir()) if folder.is_dir() else 0
        outcomes.append(
            Outcome(
                entry.public_name, entry.version, ended, reason, size, round(time.monotonic() - started_s, 2)
            )
        )
    return outcomes


def _refuse_unreachable(
    entry: Entry, state: Path, unreachable: Mapping[str, Offline], *, force: bool
) -> None:
    """Raises what a registry's first failure was if `entry` would have to ask that registry again."""
    for source in entry.sources:
        error = unreachable.get(source.registry)
        if (
            error
            and not archive_path(source, cache_dir(state)).exists()
            and (force or why_not_made(entry, state))
        ):
            raise error
