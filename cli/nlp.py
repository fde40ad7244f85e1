"""`sensorium nlp`: ask about texts."""

from typing import Annotated, Any

import typer
from sensorium.results import TextEmbedding, TextExplanation, TextLabels, TextLanguages

from cli.calling import Address, Model, Timeout, answer, open_client, read_texts, show_vectors
from cli.failure import CommandError
from cli.options import Json, MaxRuns
from cli.output import warn

app = typer.Typer(help="Compare, classify and explain texts.", no_args_is_help=True)

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


Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--labels",
        "-l",
        metavar="LABEL,LABEL…",
        help="2 to 64 candidates, best as short phrases: -l 'about sports,about food'; may be repeated. "
        "Default: the labels that the model was trained on.",
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
    labels: Labels = None,
    files: TextFiles = None,
    model: Model = "",
    json_lines: Json = False,
    address: Address = None,
    timeout: Timeout = 60.0,
) -> int:
    """Say which label fits each text best: one of yours, or of the model's own, e.g. negative or positive."""
    _need(texts, files)
    candidates = _split(labels)

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


@app.command()
def language(
    texts: Texts = None,
    files: TextFiles = None,
    max_results: Annotated[int, typer.Option(min=1, max=100, help="Languages per text.")] = 3,
    model: Model = "",
    json_lines: Json = False,
    address: Address = None,
    timeout: Timeout = 60.0,
) -> int:
    """Say in which language each text is written, as BCP-47 tags; `?` marks what is not to be relied on."""
    _need(texts, files)

    def show(name: str, result: TextLanguages) -> None:
        if result.truncated:
            warn(f"{_short(name)}: longer than the model reads; its end did not count")
        print(_short(name))
        for at, one in enumerate(result.languages):
            doubt = "" if at or result.reliable else "  ?"
            print(f"  {one.score:6.1%}  {one.code}{doubt}")

    with open_client(address, timeout) as client:
        return answer(
            read_texts(texts or [], files or []),
            lambda some: client.detect_language(some, model=model, max_results=max_results),
            show,
            json_lines=json_lines,
        )


@app.command()
def explain(
    texts: Texts = None,
    labels: Labels = None,
    label: Annotated[
        str, typer.Option(help="The label to explain; default: each text's best.", show_default=False)
    ] = "",
    files: TextFiles = None,
    max_runs: MaxRuns = 0,
    model: Model = "",
    json_lines: Json = False,
    address: Address = None,
    timeout: Timeout = 120.0,
) -> int:
    """Say which words of each text speak for a label (`+`) and which against it (`-`)."""
    _need(texts, files)
    candidates = _split(labels)

    def show(name: str, result: TextExplanation) -> None:
        _remark(name, result)
        print(f"{_short(name)}")
        print(f"  {result.score:6.1%}  {result.label} ({result.base_score:.1%} without its words)")
        most = max((abs(one.attribution) for one in result.attributions), default=0.0) or 1.0
        width = max((len(_short(one.text, 24)) for one in result.attributions), default=0)
        for one in result.attributions:
            bar = ("+" if one.attribution > 0 else "-") * round(20 * abs(one.attribution) / most)
            print(f"  {one.attribution:+7.3f}  {_short(one.text, 24):<{width}}  {bar}".rstrip())

    with open_client(address, timeout) as client:
        return answer(
            read_texts(texts or [], files or []),
            lambda some: client.explain_text(some, candidates, label=label, model=model, max_runs=max_runs),
            show,
            json_lines=json_lines,
        )


def _split(labels: list[str] | None) -> list[str]:
    return [label.strip() for part in labels or [] for label in part.split(",") if label.strip()]


def _need(texts: list[str] | None, files: list[str] | None) -> None:
    if not texts and not files:
        raise CommandError("no text: give TEXT…, `-` for stdin, or --file FILE", exit_code=2)


def _short(name: str, most: int = 60) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _remark(name: str, result: TextEmbedding | TextLabels | TextExplanation) -> None:
    if not result.reliable:
        warn(f"{_short(name)}: the model was not trained on this script; do not rely on the answer")
    if result.truncated:
        warn(f"{_short(name)}: longer than the model reads; its end did not count")
