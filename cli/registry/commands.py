"""`sensorium models sign | verify | compare | promote | rollback | history`.

Not here: what they do (the modules beside this one), which are imported when a command runs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.failure import CommandError
from cli.options import Json, StateDir, state_folder
from cli.output import print_json, print_table, stderr
from shared.gates import MARGIN

if TYPE_CHECKING:
    from cli.registry.promotion import Trial, Watcher
    from cli.registry.versions import Place
    from shared.gates import Paired
    from shared.inference.artifact import Artifact
    from shared.inference.signature import SignatureSettings

# Beside 0 (not worse, promoted, whole), 1 (worse, refused, damaged) and 2 (the command line was wrong).
UNDECIDED = 3

Name = Annotated[
    str,
    typer.Argument(
        help="A model, e.g. `nlp/sentiment`, or `sentiment` while it is unique.", show_default=False
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]…",
        help="Models, or folders of artifacts; none means every model on disk.",
        show_default=False,
    ),
]
Candidate = Annotated[
    str,
    typer.Argument(
        metavar="CANDIDATE",
        help="The folder of an artifact, as training leaves it, or a version on disk.",
        show_default=False,
    ),
]
Trusted = Annotated[
    list[Path] | None,
    typer.Option(
        "--trusted",
        metavar="FILE",
        help="Public keys (a JWK set) whose signatures are trusted; default: this machine's own.",
        show_default=False,
        dir_okay=False,
    ),
]
Margin = Annotated[
    float,
    typer.Option(
        "--margin",
        min=0.0,
        max=1.0,
        help="How much of accuracy may be lost at most, as far as the items can tell.",
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
    trust = _trust(state, trusted)
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


def compare(
    name: Name,
    candidate: Candidate,
    against: Annotated[
        str,
        typer.Argument(
            metavar="[VERSION]",
            help="What it is compared with; default: what serves now.",
            show_default=False,
        ),
    ] = "",
    margin: Margin = MARGIN,
    json_lines: Json = False,
    state_dir: StateDir = None,
) -> int:
    """Compare two versions on the same held-out items, each as it is served: paired, with an interval.

    The items are those that training has put into the state folder's `heldout`. Exit code 0: the candidate is not worse;
    1: it is; 3: the items are too few to tell.
    """
    from cli.registry.promotion import compare as run
    from cli.registry.promotion import read_items
    from cli.registry.versions import find_candidate, find_place, find_serving
    from shared.gates import Verdict, judge

    place = find_place(name, state_folder(state_dir))
    new = find_candidate(place, candidate)
    old = find_candidate(place, against) if against else find_serving(place)
    if old is None:
        raise CommandError(
            f"nothing serves of {place.public_name} yet: name what the candidate is compared with"
        )
    held_out = read_items(place)
    if held_out is None:
        raise CommandError(f"{place.public_name} has no held-out items in {place.state / 'heldout'}")
    with _watching() as watcher:
        made = run(place, old, new, held_out, watcher)
    (finding,) = judge({}, [], made.paired, margin=margin)
    before, after = made.old.measure(held_out), made.new.measure(held_out)
    if json_lines:
        print_json(
            {
                "model": place.public_name,
                "held_out": {"name": held_out.name, "sha256": held_out.sha256, "items": len(held_out.items)},
                "old": {"version": old.version, "digest": old.digest, **_rounded(before)},
                "new": {"version": new.version, "digest": new.digest, **_rounded(after)},
                "paired": _describe(made.paired),
                "slices": {part: _describe(paired) for part, paired in made.by_slice()},
                "verdict": finding.verdict.value,
                "reason": finding.reason,
            }
        )
    else:
        print(f"{place.public_name} on {len(held_out.items)} held-out items ({held_out.name})")
        rows = [
            (
                metric,
                f"{before[metric]:.4f}",
                f"{after[metric]:.4f}",
                f"{after[metric] - before[metric]:+.4f}",
            )
            for metric in before
        ]
        for part, paired in made.by_slice():
            old_right, new_right = paired.both + paired.only_old, paired.both + paired.only_new
            rows.append(
                (
                    f"accuracy, {part} ({paired.items})",
                    f"{old_right / paired.items:.4f}",
                    f"{new_right / paired.items:.4f}",
                    f"{paired.difference:+.4f}",
                )
            )
        heads = ["METRIC", f"OLD ({old.version})", f"NEW ({new.version})", "DIFFERENCE"]
        print_table(heads, rows, right=heads[1:])
        print(f"{finding.verdict.value}: {finding.reason}")
    return {Verdict.PASSED: 0, Verdict.FAILED: 1, Verdict.UNDECIDED: UNDECIDED}[finding.verdict]


def promote(
    name: Name,
    candidate: Annotated[
        str,
        typer.Argument(
            metavar="[CANDIDATE]",
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
            "--accept-undecided", help="Promote where the items are too few to tell; it is recorded."
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
    catalogue agree on hold, and it is not worse than what serves now on the same held-out items. It is signed with this
    machine's key, and recorded (`sensorium models history`).

    Exit code 0: promoted (or would be); 1: refused; 3: refused only because the items are too few to tell.
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
    from cli.registry.versions import find_candidate, find_place
    from shared.gates import Verdict, admits

    place = find_place(name, state)
    artifact = find_candidate(place, said)
    trust = _trust(state, trusted)
    version = ""
    with _watching() as watcher:
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
                refresh=lambda: find_place(place.public_name, state),
            )
        followers = wait_followed(state, place.service, place.name, version, watcher) if version else []
    let_in = admits(trial.findings, accept_undecided=accept_undecided)
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
        for one in followers:
            if one.reason:
                print(f"{one.name}: {one.reason}")
    if let_in:
        return 1 if any(one.reason for one in followers) else 0
    failed = any(finding.verdict is Verdict.FAILED for finding in trial.findings)
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


def _trust(state: Path, trusted: Sequence[Path] | None) -> "SignatureSettings":
    from cli.registry.key import own_trust
    from shared.inference.signature import SignatureSettings

    return SignatureSettings(trusted=tuple(trusted), required=True) if trusted else own_trust(state)


def _choose(names: Sequence[str], state: Path) -> "Iterator[tuple[Artifact | str, str]]":
    """Artifacts by what they are called, or why they cannot be read."""
    from cli.registry.versions import find_place
    from shared.inference.artifact import ArtifactError, read_artifact
    from shared.inference.repository.versions import scan

    folders: list[tuple[Path, str, bool]] = []
    for name in names:
        if (Path(name) / "artifact.json").is_file():
            folders.append((Path(name).resolve(), name, False))
            continue
        place = find_place(name, state)
        if not place.versions:
            raise CommandError(
                f"{place.public_name} is not on disk: run sensorium models pull {place.public_name}"
            )
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


def _describe(paired: "Paired") -> dict[str, object]:
    low, high = paired.interval
    return {
        "items": paired.items,
        "gained": paired.only_new,
        "lost": paired.only_old,
        "difference": round(paired.difference, 6),
        "interval": [round(low, 6), round(high, 6)],
        "p": round(paired.p_value, 6),
    }


def _rounded(metrics: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in metrics.items()}


@contextmanager
def _watching() -> "Iterator[Watcher]":
    from cli.registry.progress import Bar, Lines

    console = stderr()
    if not console.is_terminal:
        yield Lines(console.file)
        return
    with Bar(console) as bar:
        yield bar
