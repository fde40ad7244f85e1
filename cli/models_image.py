"""`sensorium models digest` and `bake`: what goes into an image of models. The image is built by `deploy/docker`."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from cli.failure import CommandError
from cli.options import ModelNames, StateDir, state_folder
from cli.output import megabytes, print_table
from cli.place import ROOT
from cli.pull.catalog import Entry, choose, read_catalogs

Without = Annotated[
    str, typer.Option("--without", metavar="NAME,…", help="Models to leave out.", show_default=False)
]


def digest(names: ModelNames = None, without: Without = "") -> None:
    """Print the digest of what an image of these models holds: 12 hex digits, which are the image's tag.

    Models that may be fetched but not passed on are refused by name: leave them out.
    """
    from cli.pull.image import digest_entries

    print(digest_entries(_choose(names, without)))


def bake(
    out: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="The folder to fill.", show_default=False, file_okay=False),
    ],
    names: ModelNames = None,
    without: Without = "",
    expect: Annotated[
        str | None,
        typer.Option(
            "--expect",
            metavar="DIGEST",
            help="Refuse unless `sensorium models digest` says so.",
            show_default=False,
        ),
    ] = None,
    state_dir: StateDir = None,
) -> None:
    """Fill a folder with what an image of models holds: artifacts, the key they are signed with, a bill of materials.

    Models that may be fetched but not passed on, for want of a known licence or because the catalogue says so, are refused
    by name before anything is fetched.
    """
    from cli.pull.image import bake as fill
    from cli.pull.image import digest_entries
    from cli.pull.progress import show_progress

    entries = _choose(names, without)
    found = digest_entries(entries)
    if expect is not None and expect != found:
        raise CommandError(
            f"--expect: the catalogue's digest is {found}, not '{expect}': tag the image models:{found} and build it with "
            f"--build-arg CATALOG={found}"
        )
    if shutil.which("npm") is None and any(s.registry == "npm" for entry in entries for s in entry.sources):
        raise CommandError("npm is not installed; an image that lacks a model is not built")
    with show_progress() as progress:
        artifacts = fill(entries, state_folder(state_dir), out, progress)
    print_table(
        ["MODEL", "VERSION", "LICENSE", "SIZE"],
        [
            (
                f"{artifact.service}/{artifact.name}",
                artifact.version,
                artifact.license,
                megabytes(sum(path.stat().st_size for path in artifact.folder.iterdir())),
            )
            for artifact in artifacts
        ],
        right=["SIZE"],
    )
    print(found)


def _choose(names: list[str] | None, without: str) -> list[Entry]:
    """The entries meant, all of which may be passed on."""
    from cli.pull.license import refuse_fetch_only

    entries = read_catalogs(ROOT)
    left_out = [name for name in without.replace(",", " ").split() if name]
    dropped = {entry.public_name for entry in choose(entries, left_out)} if left_out else set()
    chosen = [entry for entry in choose(entries, names or []) if entry.public_name not in dropped]
    if not chosen:
        raise CommandError("--without leaves no model", exit_code=2)
    refuse_fetch_only(chosen)
    return chosen
