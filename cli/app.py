"""The command tree. What each command does is in the module of its name; they are imported when they run."""

import typer

from cli import models

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
