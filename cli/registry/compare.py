"""`sensorium models compare`: two versions on the same held-out items. What the figures are: `comparison`, `gates`."""

from typing import Annotated

import typer

from cli.failure import CommandError
from cli.options import Json, StateDir, state_folder
from cli.output import print_json, print_table
from cli.registry.options import UNDECIDED, Margin, Name, watching
from shared.gates import MARGIN

Candidate = Annotated[
    str,
    typer.Argument(
        metavar="CANDIDATE",
        help="The folder of an artifact, as training leaves it, or a version on disk.",
        show_default=False,
    ),
]


def compare(
    name: Name,
    candidate: Candidate,
    against: Annotated[
        str,
        typer.Argument(
            metavar="VERSION",
            help="What it is compared with; default: what serves now.",
            show_default=False,
        ),
    ] = "",
    margin: Margin = MARGIN,
    json_lines: Json = False,
    state_dir: StateDir = None,
) -> int:
    """Compare two versions on the same held-out items, each as it is served: paired, with an interval.

    The items are those that training has put into the state folder's `heldout` (of the shipped models: `make train-digits`
    and its like). The 95 % interval of the difference is held against `--margin`, see there.

    Exit code 0: the candidate is not worse; 1: it is; 3: that cannot be told, for want of items or of enough of them.
    """
    from cli.registry.items import explain_missing, read_items
    from cli.registry.promotion import compare as run
    from cli.registry.promotion import describe_paired
    from cli.registry.versions import find_candidate, find_place, find_serving
    from shared.gates import Verdict, judge

    place = find_place(name, state_folder(state_dir))
    new = find_candidate(place, candidate)
    serving = find_serving(place)
    old = find_candidate(place, against) if against else serving
    if old is None:
        raise CommandError(
            f"nothing serves of {place.public_name} yet: name what the candidate is compared with"
        )
    held_out = read_items(place)
    if held_out is None:
        raise CommandError(f"{place.public_name}: {explain_missing(place, new)}", exit_code=UNDECIDED)
    with watching() as watcher:
        made = run(place, old, new, held_out, watcher, serving=serving)
    (finding,) = judge({}, [], made.paired, margin=margin)
    before, after = made.old.measure(held_out), made.new.measure(held_out)
    if json_lines:
        print_json(
            {
                "model": place.public_name,
                "held_out": {"name": held_out.name, "sha256": held_out.sha256, "items": len(held_out.items)},
                "old": {
                    "what": place.call(old, serving),
                    "version": old.version,
                    "digest": old.digest,
                    **_rounded(before),
                },
                "new": {
                    "what": place.call(new, serving),
                    "version": new.version,
                    "digest": new.digest,
                    **_rounded(after),
                },
                "paired": describe_paired(made.paired),
                "macro_f1_interval": [round(limit, 6) for limit in made.bootstrap_f1()],
                "slices": {part: describe_paired(paired) for part, paired in made.by_slice()},
                "verdict": finding.verdict.value,
                "reason": finding.reason,
            }
        )
    else:
        called = [place.call(one, serving) for one in (old, new)]
        print(f"{place.public_name} on {len(held_out.items)} held-out items ({held_out.name})")
        print(f"old: {called[0]}; new: {called[1]}")
        intervals = {"accuracy": made.paired.interval, "macro_f1": made.bootstrap_f1()}
        rows = [_row(metric, before[metric], after[metric], intervals.get(metric)) for metric in before]
        for part, paired in made.by_slice():
            right = (
                (paired.both + paired.only_old) / paired.items,
                (paired.both + paired.only_new) / paired.items,
            )
            rows.append(_row(f"accuracy, {part} ({paired.items})", *right, paired.interval))
        # A folder is too long for a head.
        heads = [
            "METRIC",
            *(one.partition(" (")[0].upper() for one in called),
            *("DIFFERENCE", "95 % INTERVAL"),
        ]
        print_table(heads, rows, right=heads[1:])
        print(f"{finding.verdict.value}: {finding.reason}")
    return {Verdict.PASSED: 0, Verdict.FAILED: 1, Verdict.UNDECIDED: UNDECIDED}[finding.verdict]


def _row(name: str, old: float, new: float, interval: tuple[float, float] | None) -> tuple[str, ...]:
    shown = "" if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}"
    return name, f"{old:.4f}", f"{new:.4f}", f"{new - old:+.4f}", shown


def _rounded(metrics: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in metrics.items()}
