"""`sensorium nlp`: ask about texts."""

from typing import Annotated, Any

import typer
from sensorium.results import TextEmbedding, TextLabels

from cli.calling import Address, Model, Timeout, answer, open_client, read_texts, show_vectors
from cli.failure import CommandError
from cli.options import Json
from cli.output import warn

app = typer.Typer(help="Compare and classify texts.", no_args_is_help=True)

Texts = Annotated[
    list[str] | None,
    typer.Argument(metavar="TEXT…", help="Texts, or `-` for every line of stdin.", show_default=False),
]
TextFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--file",
        "-f",
        metavar="FILE",
        help="A file (or pattern in quotes) that is one text.",
        show_default=False,
    ),
]


@app.command()
def embed(
    texts: Texts = None,
    files: TextFiles = None,
    model: Model = "",
    json_lines: Json = False,
    address: Address = None,
    timeout: Timeout = 60.0,
) -> int:
    """Turn texts into vectors (`--json` prints them) and say how similar they are to each other."""
    _need(texts, files)
    rows: list[tuple[str, Any]] = []

    def show(name: str, result: TextEmbedding) -> None:
        _remark(name, result)
        rows.append((_short(name), result))

    with open_client(address, timeout) as client:
        code = answer(
            read_texts(texts or [], files or []),
            lambda some: client.embed_text(some, model=model),
            show,
            json_lines=json_lines,
        )
    show_vectors(rows)
    return code


@app.command()
def classify(
    texts: Texts = None,
    labels: Annotated[
        list[str],
        typer.Option(
            "--labels",
            "-l",
            metavar="LABEL,LABEL…",
            help="2 to 64 candidates, best as short phrases: -l 'about sports,about food'; may be repeated.",
            show_default=False,
        ),
    ] = ...,  # type: ignore[assignment]
    files: TextFiles = None,
    model: Model = "",
    json_lines: Json = False,
    address: Address = None,
    timeout: Timeout = 60.0,
) -> int:
    """Say which of your labels fits each text best."""
    _need(texts, files)
    candidates = [label.strip() for part in labels for label in part.split(",") if label.strip()]

    def show(name: str, result: TextLabels) -> None:
        _remark(name, result)
        print(_short(name))
        for label in result.labels:
            print(f"  {label.score:6.1%}  {label.label}")

    with open_client(address, timeout) as client:
        return answer(
            read_texts(texts or [], files or []),
            lambda some: client.classify_text(some, candidates, model=model),
            show,
            json_lines=json_lines,
        )


def _need(texts: list[str] | None, files: list[str] | None) -> None:
    if not texts and not files:
        raise CommandError("no text: give TEXT…, `-` for stdin, or --file FILE", exit_code=2)


def _short(name: str) -> str:
    return name if len(name) <= 60 else f"{name[:59]}…"


def _remark(name: str, result: TextEmbedding | TextLabels) -> None:
    if not result.reliable:
        warn(f"{_short(name)}: the model was not trained on this script; do not rely on the answer")
    if result.truncated:
        warn(f"{_short(name)}: longer than the model reads; its end did not count")
