"""The command tree. What each command does is in the module of its name; they are imported when they run."""

from pathlib import Path
from typing import Annotated

import typer

from cli import data, models, nlp, speech, status, token, vision
from cli.options import StateDir, state_folder


def _print_version(wanted: bool) -> None:
    if wanted:
        from sensorium import __version__

        print(f"sensorium {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="sensorium",
    help="Vision, language and speech models behind one address: run the mesh, manage its models, call them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
app.add_typer(token.app, name="token")
app.add_typer(vision.app, name="vision")
app.add_typer(nlp.app, name="nlp")
app.add_typer(speech.app, name="speech")


@app.callback()
def sensorium(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Vision, language and speech models behind one address: run the mesh, manage its models, call them."""


@app.command()
def up(
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_535,
            help="Port of the gateway; 0: a free one.  [default: that of mesh.yaml, 8080]",
            show_default=False,
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on, e.g. 0.0.0.0.  [default: that of mesh.yaml, 127.0.0.1]",
            show_default=False,
        ),
    ] = None,
    replicas: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SERVICE=COUNT,…",
            help="Replicas of a service, one where nothing is said.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The mesh's file.  [default: deploy/mesh.yaml]", show_default=False
        ),
    ] = None,
    state_dir: StateDir = None,
    admin_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_535,
            help="Port of the gateway's metrics on loopback; 0: a free one.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Run the mesh on this machine: the gateway and replicas of every service, until Ctrl-C.

    Prints one line when everything is ready. A process that dies is started again. Their logs are in the state
    folder's `log`. Ctrl-C drains and stops everything; a second one does not wait.
    """
    from cli.up.command import up as run_mesh
    from cli.up.plan import DEFAULT_CONFIG

    return run_mesh(
        config=config or DEFAULT_CONFIG,
        state=state_folder(state_dir),
        host=host,
        port=port,
        admin_port=admin_port,
        replicas=replicas or [],
    )


app.command()(status.status)


@app.command()
def demo() -> int:
    """Start a mesh, ask it about a photo, a page, a portrait, sentences and a spoken clip, print the answers, stop it."""
    from cli.demo import run_demo

    return run_demo()
