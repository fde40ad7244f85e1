"""`sensorium models promote`, `rollback` and `history`. How a candidate is judged and put in place: `promotion`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.failure import CommandError
from cli.options import Json, StateDir, state_folder
from cli.output import print_json, print_table, warn
from cli.registry.options import UNDECIDED, Margin, Name, Trusted, find_trust, watching
from shared.gates import MARGIN

if TYPE_CHECKING:
    from cli.registry.promotion import Trial
    from cli.registry.versions import Place


def promote(
    name: Name,
    candidate: Annotated[
        str,
        typer.Argument(
            metavar="CANDIDATE",
            help="The folder of an artifact, as training leaves it.",
            show_default=False,
        ),
    ] = "",
    version: Annotated[
        str, typer.Option("--version", help="Instead of a folder: a version on disk.", show_default=False)
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what the gates say.")] = False,
    accept_undecided: Annotated[
        bool,
        typer.Option(
            "--accept-undecided", help="Promote where it cannot be told whether it is worse; it is recorded."
        ),
    ] = False,
    margin: Margin = MARGIN,
    trusted: Trusted = None,
    json_lines: Json = False,
    state_dir: StateDir = None,
) -> int:
    """Make a candidate the next version of a model, if it passes every gate; a running mesh takes it up by itself.

    The gates: its files are whole, its signature is right if it has one, a replica serves it (golden answers), what
    artifact.json states of the held-out items is true, the quality gates that artifact.json, the version that serves and the
    catalogue agree on hold, and it is not worse than what serves now on the same held-out items (by more than `--margin`).
    It is signed with this machine's key, and recorded (`sensorium models history`).

    The version that it becomes is the next free one, whatever its artifact.json says: 1, 2, 3 for a model of your own, whose
    first candidate may bear any free name; 1.1, 1.2 after version 1 of a model of the catalogue, whose 2 is left to the
    catalogue.

    Exit code 0: promoted (or would be); 1: refused; 3: refused only because it cannot be told whether it is worse: there are
    no held-out items, or too few.
    """
    from cli.registry.promotion import PROMOTION

    if bool(candidate) == bool(version):
        raise CommandError(
            "expected either the folder of a candidate or --version, and not both", exit_code=2
        )
    return _promote(
        name,
        candidate or version,
        PROMOTION,
        state=state_folder(state_dir),
        dry_run=dry_run,
        accept_undecided=accept_undecided,
        margin=margin,
        trusted=trusted,
        json_lines=json_lines,
    )


def rollback(
    name: Name,
    version: Annotated[
        str,
        typer.Option(
            "--version",
            help="The version to bring back; default: the one before the newest.",
            show_default=False,
        ),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what the gates say.")] = False,
    trusted: Trusted = None,
    json_lines: Json = False,
    state_dir: StateDir = None,
) -> int:
    """Bring an older version of a model back, as the next version; a running mesh takes it up by itself.

    It must be whole, signed and give its golden answers. It is not compared with what serves now, which one wants to be
    rid of.
    """
    from cli.registry.promotion import ROLLED_BACK
    from cli.registry.versions import find_place

    state = state_folder(state_dir)
    place = find_place(name, state)
    if not version:
        if len(place.versions) < 2:
            known = ", ".join(place.versions) or "none"
            raise CommandError(f"{place.public_name} has no version before the newest; there are: {known}")
        version = _find_before(place)
    return _promote(
        name, version, ROLLED_BACK, state=state, dry_run=dry_run, trusted=trusted, json_lines=json_lines
    )


def history(name: Name, json_lines: Json = False, state_dir: StateDir = None) -> None:
    """Show who promoted what when, with which figures, and what was refused."""
    from cli.registry.history import BEGUN, History
    from cli.registry.versions import find_place

    place = find_place(name, state_folder(state_dir))
    records = [
        record
        for record in History(place.state, place.service, place.name).read()
        if record.get("event") != BEGUN
    ]
    if json_lines:
        for record in records:
            print_json(record)
        return
    if not records:
        print(f"{place.public_name} has no history: nothing of it was promoted or refused here")
        return
    rows = []
    for record in records:
        paired = record.get("paired") or {}
        failed = [
            f"{gate.get('gate')}: {gate.get('reason')}"
            for gate in record.get("gates", [])
            if gate.get("verdict") != "passed"
        ]
        rows.append(
            (
                str(record.get("at")),
                str(record.get("who")),
                f"{record.get('action')}: {record.get('event')}",
                str(record.get("version", "-")),
                str(record.get("serving") or "-"),
                f"{100 * paired['difference']:+.2f} points" if paired else "-",
                "; ".join(failed) or str(record.get("from", "")),
            )
        )
    print_table(["WHEN", "WHO", "WHAT", "VERSION", "BEFORE", "DIFFERENCE", "FROM, OR WHY NOT"], rows)


def _promote(
    name: str,
    said: str,
    action: str,
    *,
    state: Path,
    dry_run: bool,
    trusted: Sequence[Path] | None,
    json_lines: bool,
    accept_undecided: bool = False,
    margin: float = MARGIN,
) -> int:
    from cli.registry.followers import wait_followed
    from cli.registry.promotion import ROLLED_BACK, promote, try_candidate
    from cli.registry.versions import find_candidate, find_new_place
    from shared.gates import Verdict, admits

    place = find_new_place(name, said, state)
    artifact = find_candidate(place, said)
    trust = find_trust(state, trusted)
    version = ""
    with watching() as watcher:
        if dry_run:
            trial = try_candidate(
                place, artifact, trust, watcher, margin=margin, rollback=action == ROLLED_BACK
            )
        else:
            trial, version = promote(
                place,
                artifact,
                trust,
                watcher,
                origin=said if said in place.versions else str(artifact.folder),
                action=action,
                margin=margin,
                accept_undecided=accept_undecided,
            )
        followers = wait_followed(state, place.service, place.name, version, watcher) if version else []
    let_in = admits(trial.findings, accept_undecided=accept_undecided)
    failed = any(finding.verdict is Verdict.FAILED for finding in trial.findings)
    if json_lines:
        print_json(
            {
                "model": place.public_name,
                "promoted": bool(version),
                "version": version,
                **trial.describe(),
                "replicas": {one.name: one.reason or "ready" for one in followers},
            }
        )
    else:
        _print_trial(trial)
        if version:
            ready = sum(not one.reason for one in followers)
            where = f"; it serves on {ready} of {len(followers)} replicas" if followers else ""
            print(f"{place.public_name}: promoted as version {version}{where}")
        else:
            print(f"{place.public_name}: {'it would be promoted' if let_in else 'refused'}")
            if not let_in and not failed:
                warn(
                    "nothing speaks against it but what cannot be told; --accept-undecided promotes it all the same"
                )
        for one in followers:
            if one.reason:
                print(f"{one.name}: {one.reason}")
    if let_in:
        return 1 if any(one.reason for one in followers) else 0
    return 1 if failed else UNDECIDED


def _print_trial(trial: "Trial") -> None:
    print_table(
        ["GATE", "VERDICT", "WHY"], [(one.gate, one.verdict.value, one.reason) for one in trial.findings]
    )


def _find_before(place: "Place") -> str:
    """The newest version that holds something else than what serves: promotions of the same content are passed over."""
    from cli.registry.versions import find_serving

    serving = find_serving(place)
    if serving is None:
        return place.versions[-1]
    for version in reversed(place.versions[: place.versions.index(serving.version)]):
        if place.read(version).manifest.files != serving.manifest.files:
            return version
    raise CommandError(f"{place.public_name}: every version on disk holds the same; name one with --version")
