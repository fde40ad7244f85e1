"""`sensorium models sign` and `verify`: who answers for an artifact, and whether it is still what he signed."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.failure import CommandError
from cli.options import Json, StateDir, state_folder
from cli.output import print_json, print_table
from cli.registry.options import Trusted, find_trust

if TYPE_CHECKING:
    from shared.inference.artifact import Artifact

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        help="Models, or folders of artifacts; none means every model on disk.",
        show_default=False,
    ),
]


def sign(names: Names = None, json_lines: Json = False, state_dir: StateDir = None) -> int:
    """Sign artifacts with this machine's key: you answer for what is in them.

    Their files are checked against artifact.json first. The key is made on first use, in the state folder's
    `keys/artifacts`; give its `jwks.json` to those who are to trust it (`artifacts.trusted` of mesh.yaml).
    """
    from cli.registry.key import own_signer
    from shared.inference.artifact import ArtifactError, verify
    from shared.inference.signature import sign_artifact

    state = state_folder(state_dir)
    artifacts = _choose(names or [], state)
    signer = own_signer(state)
    rows = []
    for artifact, shown in artifacts:
        if isinstance(artifact, str):
            rows.append((shown, "not signed", artifact))
            continue
        try:
            verify(artifact)
            sign_artifact(artifact, signer)
        except ArtifactError as error:
            rows.append((shown, "not signed", str(error)))
        else:
            rows.append((shown, "signed", f"key {signer.key_id}"))
    return _print_rows(rows, "signed", json_lines)


def verify(
    names: Names = None, trusted: Trusted = None, json_lines: Json = False, state_dir: StateDir = None
) -> int:
    """Check artifacts as a replica does before it opens them: who signed them, and every byte of their files.

    Exit code 1 if one of them would be refused. Whether they still give their golden answers is seen by `promote --dry-run`,
    and by every replica that loads them.
    """
    from shared.inference.artifact import ArtifactError
    from shared.inference.artifact import verify as verify_files
    from shared.inference.signature import check_signature

    state = state_folder(state_dir)
    trust = find_trust(state, trusted)
    rows = []
    for artifact, shown in _choose(names or [], state):
        if isinstance(artifact, str):
            rows.append((shown, "refused", artifact))
            continue
        try:
            key_id = check_signature(artifact, trust)
            verify_files(artifact)
        except ArtifactError as error:
            rows.append((shown, "refused", str(error)))
        else:
            rows.append((shown, "whole", f"signed by {key_id}"))
    return _print_rows(rows, "whole", json_lines)


def _choose(names: Sequence[str], state: Path) -> "Iterator[tuple[Artifact | str, str]]":
    """Artifacts by what they are called, or why they cannot be read."""
    from cli.registry.versions import find_entry, find_place
    from shared.inference.artifact import ArtifactError, read_artifact
    from shared.inference.repository.versions import scan

    folders: list[tuple[Path, str, bool]] = []
    for name in names:
        if (Path(name) / "artifact.json").is_file():
            folders.append((Path(name).resolve(), name, False))
            continue
        place = find_place(name, state)
        if not place.versions:
            how = "promote a candidate" if find_entry(place) is None else f"run sensorium models pull {name}"
            raise CommandError(f"{place.public_name} is not on disk: {how}")
        folders += [(place.folder(each), f"{place.public_name} {each}", True) for each in place.versions]
    if not names:
        for service in sorted((state / "models").glob("[!.]*")):
            for model, versions in scan(service).items():
                folders += [
                    (found.path, f"{service.name}/{model} {each}", True) for each, found in versions.items()
                ]
    for folder, shown, placed in folders:
        try:
            yield read_artifact(folder, placed=placed), shown
        except ArtifactError as error:
            yield str(error), shown


def _print_rows(rows: Sequence[tuple[str, str, str]], good: str, json_lines: bool) -> int:
    if json_lines:
        for what, state, reason in rows:
            print_json({"artifact": what, "state": state, "reason": reason})
    else:
        print_table(["ARTIFACT", "STATE", "WHY"], rows)
    return 0 if all(state == good for _, state, _ in rows) else 1
