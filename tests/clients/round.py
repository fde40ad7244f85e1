"""Runs the round of every client language against a live mesh with two replicas of each service.

    make test-clients                       # all of them
    make test-clients ARGS="--only node"    # some

Prints a table and writes `.bench/clients.json`, a row per language and per thing that is asked of it (`expectation.py`). A
language whose tools are missing is not measured, and says what to install. Exit status 1 if anything differs or, unless
languages were chosen, is not measured.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cli.pull.samples import fetch_sample
from shared.settings import state_dir
from tests.benchmarks.report import Row, read_rows, write_rows
from tests.clients.expectation import EXPECTATIONS, Round
from tests.clients.program import Program, ProgramError
from tests.mesh.running import ROOT, RunningMesh, make_state, running_mesh

LANGUAGES = ("python", "node", "go", "cpp", "java", "ruby")
RESULTS = ROOT / ".bench/clients.json"
REPLICAS = ("--replicas", "vision=2,nlp=2,speech=2")
# Of the Python distribution and all that comes with it, installed alone.
MAX_INSTALLED_MB = 30.0
_INSTALLED = "installed"
_MARKS = {True: "[green]✓[/]", False: "[red]✗[/]"}


def unmeasured(language: str, why: str, holds: bool | str = "not measured") -> list[Row]:
    """Rows of a language that could not be asked."""
    return [
        Row(f"{language}/{name}", None, None, None, expected.unit, expected.bar, holds, why)  # type: ignore[arg-type]
        for name, expected in EXPECTATIONS.items()
    ]


def measured(language: str, done: Round) -> list[Row]:
    """A row per expectation."""
    client = done.said.get("client", {})
    with_what = f"gRPC {client.get('grpc')}, {client.get('language')} {client.get('runtime')}"
    rows = []
    for name, expected in EXPECTATIONS.items():
        value, holds = expected.judge(name, done)
        said = json.dumps(done.said.get(name), ensure_ascii=False)
        if name == "retried":
            said += f", attempts {[attempt.previous for attempt in done.attempts]}"
        how = f"{with_what}; said {said}"
        rows.append(Row(f"{language}/{name}", value, value, value, expected.unit, expected.bar, holds, how))
    return rows


def measure_installed(program: Program) -> Row:
    """How much room the Python distribution takes: every file that its installation put into an empty environment."""
    (packages,) = (program.folder / "build/env/lib").glob("python*/site-packages")
    size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file())
    names = sorted(path.name.removesuffix(".dist-info") for path in packages.glob("*.dist-info"))
    megabytes = size / 1e6
    return Row(
        f"{program.language}/{_INSTALLED}",
        megabytes,
        megabytes,
        megabytes,
        "MB",
        f"<= {MAX_INSTALLED_MB:g}",
        megabytes <= MAX_INSTALLED_MB,
        f"site-packages with {', '.join(names)}, compiled, on {platform.machine()}",
    )


def ask(program: Program, mesh: RunningMesh, photo: Path, clip: Path, transcript: str) -> list[Row]:
    """All rows of one language."""
    try:
        if missing := program.missing_tools():
            return unmeasured(program.language, missing)
        program.build()
        rows = measured(program.language, program.run(mesh, photo, clip, transcript))
    except ProgramError as error:
        return unmeasured(program.language, str(error), holds=False)
    if program.language == "python":
        rows.append(measure_installed(program))
    return rows


def show(rows: Sequence[Row]) -> None:
    """A language a column, an expectation a line; below it what was not as expected."""
    languages = list(dict.fromkeys(row.name.split("/")[0] for row in rows))
    found = {row.name: row for row in rows}
    table = Table("", *languages, title="the round of each client against a live mesh")
    for name in (*EXPECTATIONS, _INSTALLED):
        cells = [found.get(f"{language}/{name}") for language in languages]
        table.add_row(name, *("" if row is None else _MARKS.get(row.holds, "–") for row in cells))  # type: ignore[arg-type]
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    for row in rows:
        if row.name.endswith("/photo") and row.value is not None:
            console.print(
                f"{row.name.split('/')[0]}: {row.how.partition(';')[0]}", markup=False, highlight=False
            )
    # What keeps a whole language from being asked is said once.
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.holds is not True:
            reasons.setdefault(row.how, []).append(row.name)
    for how, names in reasons.items():
        shown = names[0] if len(names) == 1 else names[0].split("/")[0]
        console.print(f"{shown}: {how}", markup=False, highlight=False)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=LANGUAGES, help="this language; may be repeated")
    chosen = parser.parse_args().only
    state = state_dir()
    photo, clip = fetch_sample("cat", state), fetch_sample("beckett", state)
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        running_mesh(make_state(Path(folder) / "state", state / "models"), *REPLICAS) as mesh,
    ):
        for language in LANGUAGES:
            if chosen is None or language in chosen:
                rows += ask(Program(language), mesh, photo.path, clip.path, str(clip.fields["transcript"]))
    asked = {row.name.split("/")[0] for row in rows}
    kept = read_rows(RESULTS, [language for language in LANGUAGES if language not in asked])
    write_rows([*rows, *(row for some in kept.values() for row in some)], RESULTS)
    show(rows)
    bad = {False} if chosen else {False, "not measured"}
    return int(any(row.holds in bad for row in rows))


if __name__ == "__main__":
    sys.exit(main())
