"""Which versions of a model there are on this machine, which of them serves, and what a command line means by one."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cli.failure import CommandError
from cli.place import ROOT, models_dir
from cli.pull.catalog import Entry, read_catalogs
from shared.inference.artifact import Artifact, ArtifactError, read_artifact, verify
from shared.inference.repository.versions import order, scan


@dataclass(frozen=True)
class Place:
    """A model on this machine: its service, its name, and the versions on disk, oldest first."""

    state: Path
    service: str
    name: str
    versions: tuple[str, ...]

    @property
    def public_name(self) -> str:
        """`<service>/<model>`."""
        return f"{self.service}/{self.name}"

    @property
    def models(self) -> Path:
        """Folder of the service's models."""
        return models_dir(self.state, self.service)

    def folder(self, version: str) -> Path:
        """Where a version is, or would be."""
        return self.models / self.name / version

    def read(self, version: str) -> Artifact:
        """A version on disk; its files are not checked yet.

        Raises:
            CommandError: there is none, or it cannot be read.
        """
        if version not in self.versions:
            known = ", ".join(self.versions) or "none"
            raise CommandError(f"{self.public_name} has no version '{version}' on disk; there are: {known}")
        try:
            return read_artifact(self.folder(version))
        except ArtifactError as error:
            raise CommandError(f"{self.public_name} {version}: {error}") from error


def find_place(name: str, state: Path) -> Place:
    """The model that `<model>` or `<service>/<model>` means, on disk or in a catalogue.

    Raises:
        CommandError: there is none of this name, or several services have one.
    """
    service, _, model = name.rpartition("/")
    root = state / "models"
    on_disk = {
        folder.name: scan(folder)
        for folder in sorted(root.glob("*"))
        if folder.is_dir() and folder.name[0] != "."
    }
    catalogued = {(entry.service, entry.name) for entry in read_catalogs(ROOT)}
    known = catalogued | {(each, one) for each, found in on_disk.items() for one in found}
    fitting = sorted(pair for pair in known if pair[1] == model and service in ("", pair[0]))
    if not fitting:
        names = ", ".join(sorted(f"{each}/{one}" for each, one in known))
        raise CommandError(f"no model is called '{name}'; there are {names}", exit_code=2)
    if len(fitting) > 1:
        raise CommandError(
            f"'{name}' may be {' or '.join('/'.join(pair) for pair in fitting)}; say which", exit_code=2
        )
    service = fitting[0][0]
    versions = on_disk.get(service, {}).get(model, {})
    return Place(state, service, model, tuple(sorted(versions, key=order)))


def find_entry(place: Place) -> Entry | None:
    """What the catalogue says of a model, if it says anything."""
    return next(
        (
            entry
            for entry in read_catalogs(ROOT)
            if (entry.service, entry.name) == (place.service, place.name)
        ),
        None,
    )


def find_candidate(place: Place, said: str) -> Artifact:
    """What a command line means: a version on disk, or the folder of an artifact anywhere.

    Raises:
        CommandError: it is neither, or of another model.
    """
    if said in place.versions:
        return place.read(said)
    folder = Path(said).expanduser()
    if not (folder / "artifact.json").is_file():
        known = ", ".join(place.versions) or "none"
        raise CommandError(
            f"'{said}' is no version of {place.public_name} on disk (there are: {known}), nor a folder of an artifact",
            exit_code=2,
        )
    try:
        artifact = read_artifact(folder.resolve(), placed=False)
    except ArtifactError as error:
        raise CommandError(f"{said}: {error}") from error
    if (artifact.service, artifact.name) != (place.service, place.name):
        raise CommandError(
            f"{said}: expected an artifact of {place.public_name}, got one of {artifact.service}/{artifact.name}",
            exit_code=2,
        )
    return artifact


def find_serving(place: Place) -> Artifact | None:
    """The newest version on disk that is whole: what replicas answer with where nothing else is said."""
    for version in reversed(place.versions):
        try:
            artifact = read_artifact(place.folder(version))
            verify(artifact)
        except ArtifactError:
            continue
        return artifact
    return None


def next_version(versions: Iterable[str], catalogued: str | None) -> str:
    """The version that a promoted artifact becomes: above all that are there, and of a model of the catalogue below the
    catalogue's next one, so that a pull never has to put another artifact in its place.
    """
    newest = max([*versions, *([] if catalogued is None else [catalogued])], key=order, default="")
    if not newest:
        return "1"
    if newest == catalogued:
        return f"{newest}.1"
    found = re.search(r"(\d+)(\D*)$", newest, re.ASCII)
    if found is None:
        return f"{newest}.1"
    return f"{newest[: found.start(1)]}{int(found[1]) + 1}"
