"""`sensorium status`: what the mesh says of its replicas and models."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Annotated

import typer
from sensorium.results import ModelInfo, ReplicaInfo

from cli.calling import Address, Timeout, open_client
from cli.options import Json, StateDir, state_folder
from cli.output import print_json, print_table, stdout
from cli.up.restarts import Restart, read_restarts


def status(
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again and again, until Ctrl-C.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks with --watch.")] = 1.0,
    json_lines: Json = False,
    address: Address = None,
    timeout: Timeout = 10.0,
    state_dir: StateDir = None,
) -> int:
    """Show the replicas and models of a mesh. Exits with 1 if it cannot be asked, or if nothing is ready.

    Of a mesh that `sensorium up` runs from the state folder it also says which replicas were started again, and why.
    """
    with open_client(address, timeout) as client:
        while True:
            replicas, models = client.list_replicas(), client.list_models()
            restarts = read_restarts(state_folder(state_dir))
            if json_lines:
                print_json(
                    {
                        "replicas": [
                            dataclasses.asdict(replica)
                            | {"restarts": _as_dict(restarts.get(replica.endpoint))}
                            for replica in replicas
                        ],
                        "models": [dataclasses.asdict(model) for model in models],
                    }
                )
            else:
                if watch and stdout().is_terminal:
                    stdout().clear()
                show(replicas, models, restarts)
            if not watch:
                return 0 if any(replica.state == "ready" for replica in replicas) else 1
            time.sleep(every)


def show(
    replicas: list[ReplicaInfo], models: list[ModelInfo], restarts: Mapping[str, Restart] | None = None
) -> None:
    """Prints both tables. restarts: by endpoint."""
    print_table(
        ["SERVICE", "REPLICA", "STATE", "MODELS READY", "REASON"],
        [
            (
                replica.service,
                replica.endpoint,
                replica.state,
                f"{sum(state == 'ready' for state in replica.models.values())} of {len(replica.models)}",
                replica.reason or _describe((restarts or {}).get(replica.endpoint)),
            )
            for replica in replicas
        ],
    )
    print()
    print_table(
        ["MODEL", "VERSION", "STATE", "READY ON", "DEFAULT FOR", "REASON"],
        [
            (
                model.public_name,
                model.version,
                model.state,
                f"{model.ready_replicas} of {model.replicas}",
                ", ".join(model.default_for),
                model.reason or model.execution_provider_reason,
            )
            for model in models
        ],
    )


def _describe(restart: Restart | None) -> str:
    if restart is None:
        return ""
    times = "once" if restart.count == 1 else f"{restart.count} times"
    ago_s = max(time.time() - restart.at, 0.0)
    ago = f"{ago_s:.0f} s" if ago_s < 120 else f"{ago_s / 60:.0f} min"
    return f"restarted {times}, {ago} ago: the one before {restart.why}"


def _as_dict(restart: Restart | None) -> dict[str, object]:
    return {"count": 0} if restart is None else dataclasses.asdict(restart)
