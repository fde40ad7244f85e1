"""`sensorium vision`: ask about images."""

from pathlib import Path
from typing import Annotated, Any

import typer
from sensorium.results import ImageExplanation, ImageFaces, ImageLabels, ImageObjects, ImageText

from cli.calling import Address, Files, Model, Timeout, answer, open_client, read_files, show_vectors
from cli.failure import CommandError
from cli.options import Json, MaxRuns
from cli.output import warn

app = typer.Typer(help="Classify, search, read, compare and explain images.", no_args_is_help=True)

MinScore = Annotated[
    float | None,
    typer.Option(help="Leave out what is less sure, 0 to 1; default: the model's own.", show_default=False),
]


@app.command()
def classify(
    files: Files,
    top_k: Annotated[int, typer.Option(min=1, max=1000, help="Labels per image.")] = 5,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Leave out labels less probable.")] = 0.0,
    model: Model = "",
    json_lines: Json = False,
    address: Address = None,
    timeout: Timeout = 60.0,
) -> int:
    """Name what each image shows."""

    def show(name: str, result: ImageLabels) -> None:
        print(name)
        for label in result.labels:
            print(f"  {label.score:6.1%}  {label.label}")

    with open_client(address, timeout) as client:
        return answer(
            read_files(files),
            lambda images: client.classify_image(images, model=model, top_k=top_k, min_score=min_score),
            show,
            json_lines=json_lines,
        )


@app.command()
def detect(
    files: Files,
    min_score: MinScore = None,
    max_results: Annotated[int, typer.Option(min=1, max=300, help="Objects per image.")] = 100,
    model: Model = "",
    json_lines: Json = False,
    address: Address = None,
    timeout: Timeout = 60.0,
) -> int:
    """Find objects and say where they are (x, y, x, y in pixels from the top left)."""

    def show(name: str, result: ImageObjects) -> None:
        print(name if result.objects else f"{name}\n  no objects")
        for found in result.objects:
            print(f"  {found.score:6.1%}  {found.label:<16} {_box(found.box)}")

    with open_client(address, timeout) as client:
        return answer(
            read_files(files),
            lambda images: client.detect_objects(
                images, model=model, min_score=min_score, max_results=max_results
            ),
            show,
            json_lines=json_lines,
        )


@app.command()
def faces(
    files: Files,
    min_score: MinScore = None,
    max_results: Annotated[int, typer.Option(min=1, max=300, help="Faces per image.")] = 100,
    model: Model = "",
    json_lines: Json = False,
    address: Address = None,
    timeout: Timeout = 60.0,
) -> int:
    """Find faces (x, y, x, y in pixels from the top left). Nobody is identified."""

    def show(name: str, result: ImageFaces) -> None:
        print(name if result.faces else f"{name}\n  no faces")
        for face in result.faces:
            print(f"  {face.score:6.1%}  {_box(face.box)}")

    with open_client(address, timeout) as client:
        return answer(
            read_files(files),
            lambda images: client.detect_faces(
                images, model=model, min_score=min_score, max_results=max_results
            ),
            show,
            json_lines=json_lines,
        )


@app.command()
def read(
    files: Files,
    min_score: MinScore = None,
    model: Model = "",
    json_lines: Json = False,
    address: Address = None,
    timeout: Timeout = 60.0,
) -> int:
    """Read printed text; of several images each text follows its file's name."""
    several = len(files) > 1 or any(character in files[0] for character in "*?[")

    def show(name: str, result: ImageText) -> None:
        if several:
            print(f"{name}:")
        print(result.text)

    with open_client(address, timeout) as client:
        return answer(
            read_files(files),
            lambda images: client.read_text(images, model=model, min_score=min_score),
            show,
            json_lines=json_lines,
        )


@app.command()
def embed(
    files: Files,
    model: Model = "",
    json_lines: Json = False,
    address: Address = None,
    timeout: Timeout = 60.0,
) -> int:
    """Turn images into vectors (`--json` prints them) and say how similar they are to each other."""
    rows: list[tuple[str, Any]] = []
    with open_client(address, timeout) as client:
        code = answer(
            read_files(files),
            lambda images: client.embed_image(images, model=model),
            lambda name, result: rows.append((name, result)),
            json_lines=json_lines,
        )
    show_vectors(rows)
    return code


@app.command()
def explain(
    files: Files,
    label: Annotated[
        str,
        typer.Option(
            help="The label to explain, as `classify` writes it; default: each image's best.",
            show_default=False,
        ),
    ] = "",
    heat_maps: Annotated[
        Path | None,
        typer.Option(
            "--heat-maps",
            metavar="FOLDER",
            help="Write a PNG for each image into it: red speaks for the label, blue against it.",
            show_default=False,
        ),
    ] = None,
    max_runs: MaxRuns = 0,
    model: Model = "",
    json_lines: Json = False,
    address: Address = None,
    timeout: Timeout = 120.0,
) -> int:
    """Say which parts of each image speak for a label: a grid of numbers, and a heat map."""
    written: set[str] = set()

    def save(name: str, result: ImageExplanation) -> None:
        if heat_maps is None:
            return
        # Two inputs of one name, such as a/1.png and b/1.png, become 1.png and 1-2.png.
        stem = Path(name).stem if name != "-" else "stdin"
        number = next(n for n in range(1, len(written) + 2) if f"{stem}-{n}" not in written)
        written.add(f"{stem}-{number}")
        path = heat_maps / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
        try:
            heat_maps.mkdir(parents=True, exist_ok=True)
            path.write_bytes(result.heat_map)
        except OSError as error:
            raise CommandError(f"{path}: {(error.strerror or str(error)).lower()}") from error
        warn(f"{name}: heat map in {path}")

    def show(name: str, result: ImageExplanation) -> None:
        print(name)
        print(f"  {result.score:6.1%}  {result.label} ({result.base_score:.1%} with everything covered)")
        for row in result.attributions:
            print("  " + " ".join(f"{value:+6.3f}" if value else "     ." for value in row))
        save(name, result)

    with open_client(address, timeout) as client:
        return answer(
            read_files(files),
            lambda images: client.explain_image(images, label=label, model=model, max_runs=max_runs),
            show,
            json_lines=json_lines,
        )


def _box(box: Any) -> str:
    return f"{box.x_min:.0f},{box.y_min:.0f},{box.x_max:.0f},{box.y_max:.0f}"
