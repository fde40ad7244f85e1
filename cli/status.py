"""`sensorium status`: what the mesh says of its replicas and models."""

import dataclasses
import time
from typing import Annotated

import typer
from sensorium.results import ModelInfo, ReplicaInfo

from cli.calling import Address, Timeout, open_client
from cli.options import Json
from cli.output import print_json, print_table, stdout


def status(
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again and again, until Ctrl-C.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks with --watch.")] = 1.0,
    json_lines: Json = False,
    address: Address = None,
    timeout: Timeout = 10.0,
) -> int:
    """Show the replicas and models of a mesh. Exits with 1 if it cannot be asked, or if nothing is ready."""
    with open_client(address, timeout) as client:
        while True:
            replicas, models = client.list_replicas(), client.list_models()
            if json_lines:
                print_json(
                    {
                        "replicas": [dataclasses.asdict(replica) for replica in replicas],
                        "models": [dataclasses.asdict(model) for model in models],
                    }
                )
            else:
                if watch and stdout().is_terminal:
                    stdout().clear()
                show(replicas, models)
            if not watch:
                return 0 if any(replica.state == "ready" for replica in replicas) else 1
            time.sleep(every)


def show(replicas: list[ReplicaInfo], models: list[ModelInfo]) -> None:
    """Prints both tables."""
    print_table(
        ["SERVICE", "REPLICA", "STATE", "MODELS READY", "REASON"],
        [
            (
                replica.service,
                replica.endpoint,
                replica.state,
                f"{sum(state == 'ready' for state in replica.models.values())} of {len(replica.models)}",
                replica.reason,
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
                model.reason,
            )
            for model in models
        ],
    )
