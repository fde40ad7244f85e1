"""What was found by tuning before: showing it, forgetting it."""

from __future__ import annotations

from pathlib import Path

from cli.failure import CommandError
from cli.output import print_json
from cli.tune.show import print_tuned
from shared.inference.machine import describe_cpu, describe_runtime
from shared.inference.tuning.record import TunedFolder


def show_all(name: str, state: Path, json_lines: bool) -> None:
    """Print all that was measured of a model, newest first.

    Raises:
        CommandError: nothing was.
    """
    service, _, model = name.rpartition("/")
    found = [
        each
        for each in TunedFolder(state).list_all(model)
        if not service or each.model.partition("/")[0] == service
    ]
    if not found:
        raise CommandError(f"'{name}' is not tuned here: run sensorium models tune {name}")
    for number, tuned in enumerate(found):
        here = tuned.cpu == describe_cpu() and tuned.runtime == describe_runtime()
        if json_lines:
            print_json({**tuned.model_dump(mode="json"), "holds_here": here})
            continue
        if number:
            print()
        print(
            f"{tuned.model} {tuned.version} on {tuned.provider}, {tuned.cores} cores, measured {tuned.measured_at}"
        )
        if not here:
            print(f"holds elsewhere only: {tuned.cpu}, ONNX Runtime {tuned.runtime.split()[0]}")
        print_tuned(tuned)


def forget_all(name: str, state: Path, json_lines: bool) -> None:
    """Remove all that was measured of a model.

    Raises:
        CommandError: nothing was, or it cannot be removed.
    """
    try:
        count = TunedFolder(state).forget(name.rpartition("/")[2])
    except OSError as error:
        raise CommandError(f"{error.filename} cannot be removed: {error.strerror}") from None
    if not count:
        raise CommandError(f"'{name}' is not tuned here")
    if json_lines:
        print_json({"model": name, "forgotten": count})
    else:
        print(f"forgot what was found of {name}; replicas use their settings from their next start on")
