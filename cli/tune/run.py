"""A tuning from its model's name to what is kept and printed.

Not here: the measurements (`rounds.py`).
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from cli.failure import CommandError
from cli.output import print_json, stderr, warn
from cli.registry.key import own_trust
from cli.tune.others import Others
from cli.tune.plot import draw
from cli.tune.rounds import NothingFitsError, tune
from cli.tune.show import Steps, describe, print_tuned
from cli.tune.subject import find_artifact, read_settings
from cli.up.lock import find_owner
from shared.inference.artifact import ArtifactError
from shared.inference.repository.room import RoomError
from shared.inference.session.session import SessionError
from shared.inference.settings import InferenceSettings
from shared.inference.tuning.record import TunedFolder
from shared.inference.tuning.values import Tuned

# Share of the cores that others may take without a remark.
_DISTURBED = 0.15


def measure_and_keep(
    name: str,
    state: Path,
    json_lines: bool,
    *,
    cores: int | None,
    target_s: float,
    rounds: int,
    window_s: float,
) -> None:
    """Tune a model, keep the best, print it all.

    Raises:
        CommandError: there is no such model, it cannot be loaded, or nothing is within the target.
    """
    service, folder = find_artifact(name, state)
    settings = read_settings(service)
    if "signature" not in settings.model_fields_set:
        settings = settings.model_copy(update={"signature": own_trust(state)})
    if cores is not None:
        settings = settings.model_copy(update={"cores": cores})
    _warn_of_mesh(state)
    others = Others()
    try:
        tuned, path = asyncio.run(_measure(folder, service, settings, target_s, rounds, window_s, state))
    finally:
        if (taken := others.count_cores()) > _DISTURBED * settings.cores:
            warn(
                f"other processes kept {taken:.1f} of {settings.cores} cores busy meanwhile: items/s and latencies "
                "tell of that, too; measure again when the machine has nothing else to do"
            )
    _warn_of_stronger(settings, tuned)
    if json_lines:
        print_json({**tuned.model_dump(mode="json"), "file": str(path)})
    else:
        _print(tuned, path)


async def _measure(
    folder: Path,
    service: str,
    settings: InferenceSettings,
    target_s: float,
    rounds: int,
    window_s: float,
    state: Path,
) -> tuple[Tuned, Path]:
    try:
        with Steps(stderr()) as steps:
            tuned = await tune(
                folder,
                service,
                settings,
                target_s=target_s,
                rounds=rounds,
                window_s=window_s,
                watcher=steps,
            )
    except NothingFitsError as error:
        nearest = error.nearest
        raise CommandError(
            f"{error} of {target_s * 1e3:g} ms; nearest: {describe(nearest.values)} with a 95th percentile of "
            f"{nearest.figures.latency_s * 1e3:.1f} ms; nothing was kept, try a longer --latency-target"
        ) from None
    except (ArtifactError, SessionError, RoomError) as error:
        raise CommandError(f"{service}/{folder.parent.name} cannot be loaded: {error}") from None
    except asyncio.CancelledError:
        warn("stopped; nothing was kept")
        raise
    try:
        path = TunedFolder(state).keep(tuned)
        path.with_suffix(".svg").write_text(draw(tuned), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{error.filename} cannot be written: {error.strerror}") from None
    return tuned, path


def _print(tuned: Tuned, path: Path) -> None:
    print_tuned(tuned)
    figures = tuned.best.figures
    print()
    print(
        f"best within {tuned.latency_target_s * 1e3:g} ms: {describe(tuned.best.values)}: "
        f"{figures.items_per_s:.1f} items/s, 95th percentile {figures.latency_s * 1e3:.1f} ms, "
        f"{figures.cpu_s_per_item * 1e3:.2f} ms of CPU an item"
    )
    print(f"kept in {path}, drawn in {path.with_suffix('.svg').name}; replicas take it at their next start")


def _warn_of_mesh(state: Path) -> None:
    if (owner := find_owner(state)) is not None:
        warn(f"a mesh (pid {owner}) runs from {state}: it takes part of the machine, figures will be too low")


def _warn_of_stronger(settings: InferenceSettings, tuned: Tuned) -> None:
    """Say which of the values will not be used, since the environment says others."""
    values = tuned.best.values
    holds = settings.list_tuned(tuned.model.partition("/")[2], values)
    for field in values.model_dump().keys() - holds.keys():
        warn(f"{field} is set in the environment, which is stronger than what was found")
