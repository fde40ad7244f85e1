"""Which versions of a model there are on this machine, which of them serves, and what a command line means by one."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cli.failure import CommandError
from cli.place import ROOT, models_dir
from cli.pull.catalog import Entry, read_catalogs
from shared.inference.artifact import Artifact, ArtifactError, read_artifact, verify
from shared.inference.manifest import MANIFEST
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

    def refresh(self) -> "Place":
        """The same model, with the versions that are on disk now."""
        return _look(self.state, self.service, self.name)

    def call(self, artifact: Artifact, serving: Artifact | None = None) -> str:
        """How a version is told from others: `serving 1`, `version 1`, or `candidate (FOLDER)` where it is none yet."""
        if artifact.folder.parent != self.models / self.name:
            return f"candidate ({artifact.folder})"
        is_serving = serving is not None and serving.version == artifact.version
        return f"{'serving' if is_serving else 'version'} {artifact.version}"

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
    """The model that `<model>` or `<service>/<model>` means: on disk, in a catalogue, or in the record of promotions.

    Raises:
        CommandError: there is none of this name, or several services have one.
    """
    service, _, model = name.rpartition("/")
    known = _find_known(state)
    fitting = sorted(pair for pair in known if pair[1] == model and service in ("", pair[0]))
    if not fitting:
        names = ", ".join(sorted(f"{each}/{one}" for each, one in known))
        raise CommandError(f"no model is called '{name}'; there are {names}", exit_code=2)
    if len(fitting) > 1:
        raise CommandError(
            f"'{name}' may be {' or '.join('/'.join(pair) for pair in fitting)}; say which", exit_code=2
        )
    return _look(state, *fitting[0])


def find_new_place(name: str, candidate: str, state: Path) -> Place:
    """The same, but a model that nobody knows yet may be meant too, if the candidate's folder says that it is of that one.

    Raises:
        CommandError: see `find_place`; or the candidate is of another model, or of a service that is not ours.
    """
    service, _, model = name.rpartition("/")
    folder = Path(candidate).expanduser()
    if any(one == model and service in ("", each) for each, one in _find_known(state)):
        return find_place(name, state)
    if not (folder / MANIFEST).is_file():
        return find_place(name, state)  # says which models there are
    artifact = _read_folder(folder, candidate)
    services = sorted({entry.service for entry in read_catalogs(ROOT)})
    if artifact.service not in services:
        raise CommandError(
            f"{candidate}: service: expected one of {', '.join(services)}, got '{artifact.service}'",
            exit_code=2,
        )
    public_name = f"{artifact.service}/{artifact.name}"
    if model != artifact.name or service not in ("", artifact.service):
        raise CommandError(
            f"no model is called '{name}', and {candidate} holds {public_name}: to promote it as a new model, "
            f"call it {public_name}",
            exit_code=2,
        )
    return _look(state, artifact.service, artifact.name)


def find_on_disk(state: Path) -> set[tuple[str, str]]:
    """Services and names of the models of which there is a version."""
    return {
        (folder.name, name)
        for folder in (state / "models").glob("[!.]*")
        if folder.is_dir()
        for name in scan(folder)
    }


def _find_known(state: Path) -> set[tuple[str, str]]:
    """Services and names of models."""
    recorded = ((path.parent.name, path.stem) for path in (state / "registry").glob("*/*.jsonl"))
    return {(entry.service, entry.name) for entry in read_catalogs(ROOT)} | {*find_on_disk(state), *recorded}


def _look(state: Path, service: str, name: str) -> Place:
    versions = scan(models_dir(state, service)).get(name, {})
    return Place(state, service, name, tuple(sorted(versions, key=order)))


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
    if not (folder / MANIFEST).is_file():
        known = ", ".join(place.versions) or "none"
        raise CommandError(
            f"'{said}' is no version of {place.public_name} on disk (there are: {known}), nor a folder of an artifact",
            exit_code=2,
        )
    artifact = _read_folder(folder, said)
    if (artifact.service, artifact.name) != (place.service, place.name):
        raise CommandError(
            f"{said}: expected an artifact of {place.public_name}, got one of {artifact.service}/{artifact.name}",
            exit_code=2,
        )
    return artifact


def _read_folder(folder: Path, said: str) -> Artifact:
    try:
        return read_artifact(folder.resolve(), placed=False)
    except ArtifactError as error:
        raise CommandError(f"{said}: {error}") from error


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
