"""`sensorium models load` and `unload`: which versions of a model the replicas of a mesh have ready."""

from typing import Annotated

import typer
from sensorium import Client
from sensorium.errors import PermissionDenied

from cli.calling import Address, open_client
from cli.options import Json
from cli.output import print_json, print_table, stderr

# Loading takes up to some seconds on each replica, and all of them load at a time.
_TIMEOUT_S = 120.0

Name = Annotated[
    str,
    typer.Argument(help="A model, e.g. `nlp/minilm`, or `minilm` while it is unique.", show_default=False),
]
Version = Annotated[
    str,
    typer.Option(
        "--version", help="This version only; default: what the model's rule says.", show_default=False
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds that it may take.")]


def load(
    name: Name,
    version: Version = "",
    address: Address = None,
    timeout: Timeout = _TIMEOUT_S,
    json_lines: Json = False,
) -> None:
    """Load a model, or a version of it, as it lies on the replicas' disks now; what served before serves until then.

    A version that cannot be loaded is refused with its reason, and what served before serves on. Needs a token with the
    scope `admin`, and with `mesh` to say what came of it.
    """
    with open_client(address, timeout) as client:
        client.load_model(name, version)
        _show(client, name, json_lines)


def unload(
    name: Name,
    version: Version = "",
    address: Address = None,
    timeout: Timeout = _TIMEOUT_S,
    json_lines: Json = False,
) -> None:
    """Unload a model, or a version of it, until it is loaded again. Calls that run end on it.

    Where a version is named, the one before it is loaded and takes over. Needs a token with the scope `admin`,
    and with `mesh` to say what came of it.
    """
    with open_client(address, timeout) as client:
        client.unload_model(name, version)
        _show(client, name, json_lines)


def _show(client: Client, name: str, json_lines: bool) -> None:
    """What the mesh says of the model now, if the token may know."""
    try:
        listed = client.list_models()
    except PermissionDenied:
        stderr().print("done; what came of it is told to tokens with the scope `mesh`", markup=False)
        return
    models = [model for model in listed if name in (model.public_name, model.name)]
    if json_lines:
        for model in models:
            print_json(
                {
                    "model": model.public_name,
                    "version": model.version,
                    "state": model.state,
                    "ready_replicas": model.ready_replicas,
                    "replicas": model.replicas,
                    "reason": model.reason,
                }
            )
        return
    print_table(
        ["MODEL", "VERSION", "STATE", "READY ON", "REASON"],
        [
            (
                model.public_name,
                model.version,
                model.state,
                f"{model.ready_replicas} of {model.replicas}",
                model.reason,
            )
            for model in models
        ],
    )
