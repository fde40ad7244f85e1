"""`sensorium models release`: lets models serve again that replicas have quarantined for crashing or hanging."""

import math
from typing import Annotated

import typer

from cli.failure import CommandError
from cli.options import Json, StateDir, state_folder
from cli.output import print_json, print_table


def release(
    name: Annotated[str, typer.Argument(help="A model, e.g. `minilm` or `nlp/minilm`.", show_default=False)],
    json_lines: Json = False,
    state_dir: StateDir = None,
) -> None:
    """Forget the crashes and hangs of a model, so that it is loaded again: at once where its service runs.

    A model that was blamed twice is quarantined for a day, for this machine's replicas; a new version of it never is.
    """
    # Imported here: commands start fast.
    from shared.inference.isolation.record import ROOM, Blamed, Record, format_time, record_folder

    root = state_folder(state_dir) / ROOM
    service, _, model = name.rpartition("/")
    services = [service] if service else sorted(path.name for path in root.glob("*"))
    released: list[tuple[str, Blamed]] = []
    known: list[str] = []
    for service in services:
        # Replicas let blame age by their settings; here all counts that lies in the file.
        record = Record(record_folder(state_folder(state_dir), service), blame_s=math.inf)
        blamed = record.list_blamed()
        known += [f"{service}/{each.suspect.model}" for each in blamed]
        if any(each.suspect.model == model for each in blamed):
            released += [(service, each) for each in record.release(model)]
    if not released:
        raise CommandError(
            f"nothing counts against '{name}'; blamed are: {', '.join(sorted(known)) or 'none'}"
        )
    rows = [
        {
            "model": f"{service}/{each.suspect.model}",
            "version": each.suspect.version,
            "quarantined": each.quarantined,
            "blamed": len(each.blames),
            "last": format_time(each.blames[-1].at),
            "reason": each.blames[-1].reason,
        }
        for service, each in released
    ]
    if json_lines:
        for row in rows:
            print_json(row)
        return
    columns = ["model", "version", "blamed", "last", "reason"]
    print_table(
        ["RELEASED", *(column.upper() for column in columns[1:])],
        [[str(row[column]) for column in columns] for row in rows],
    )
