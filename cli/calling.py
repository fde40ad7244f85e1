"""What the commands that call the mesh share: the client, the inputs, one answer or one error per input."""

import base64
import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from sensorium import Client, SensoriumError
from sensorium.results import Result

from cli.failure import CommandError
from cli.output import print_json, warn

Address = Annotated[
    str | None,
    typer.Option(
        help="Where the mesh is: host:port, https://… or unix:/path; default: SENSORIUM_ADDRESS, else 127.0.0.1:8080.",
        show_default=False,
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds that a call may take.")]
Model = Annotated[
    str,
    typer.Option(
        help="Model, by a name of `sensorium models list`; default: the one for this call.",
        show_default=False,
    ),
]
Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE…",
        help="Files, patterns in quotes (`'folder/*'`), or `-` for stdin.",
        show_default=False,
    ),
]

R = TypeVar("R", bound=Result)
# Inputs held in memory at a time; the client makes calls of them as it sees fit.
_AT_A_TIME = 16


@dataclass(frozen=True)
class Input:
    """A named input; error says why it could not be read."""

    name: str
    content: Any = None
    error: str = ""


@contextmanager
def open_client(address: str | None, timeout_s: float) -> Iterator[Client]:
    """A client whose errors end the command with their own line.

    Raises:
        CommandError: the mesh said no, or the address is none.
    """
    try:
        with Client(address, timeout_s=timeout_s) as client:
            yield client
    except SensoriumError as error:
        raise CommandError(str(error)) from error
    except ValueError as error:
        raise CommandError(str(error), exit_code=2) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from error


def read_files(names: Sequence[str]) -> Iterator[Input]:
    """Reads each file when it is its turn. A name that is no file is tried as a pattern; `-` is stdin."""
    for name in names:
        if name == "-":
            yield Input("-", sys.stdin.buffer.read())
            continue
        path = Path(name)
        if not path.exists() and any(character in name for character in "*?["):
            found = sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))
            if not found:
                yield Input(name, error="no file matches")
            for match in found:
                if match.is_file():
                    yield _read(match)
            continue
        yield _read(path)


def read_texts(texts: Sequence[str], files: Sequence[str]) -> Iterator[Input]:
    """Texts of the command line (`-` = every line of stdin), then files, each one text."""
    for text in texts:
        if text == "-":
            for line in sys.stdin:
                if line.strip():
                    yield Input(line.strip(), line.strip())
            continue
        yield Input(text, text)
    for found in read_files(files):
        if found.error:
            yield found
            continue
        try:
            yield Input(found.name, found.content.decode("utf-8"))
        except UnicodeDecodeError as error:
            yield Input(
                found.name, error=f"expected text in UTF-8, got byte {error.object[error.start]:#04x}"
            )


def answer(
    inputs: Iterable[Input],
    ask: Callable[[list[Any]], list[R]],
    show: Callable[[str, R], None],
    *,
    json_lines: bool,
) -> int:
    """Asks about all inputs and shows the answers in their order; the exit code says whether all were answered."""
    failed = False
    for some in _batched(inputs, _AT_A_TIME):
        readable = [one for one in some if not one.error]
        results = dict(zip(map(id, readable), ask([one.content for one in readable]), strict=True))
        for one in some:
            result = results.get(id(one))
            error = one.error or (str(result.error) if result is not None and result.error else "")
            failed = failed or bool(error)
            if json_lines:
                print_json(describe(one, result))
            elif error:
                warn(f"{one.name or repr('')}: {error}")
            elif result is not None:
                show(one.name, result)
    return 1 if failed else 0


def describe(one: Input, result: Result | None) -> dict[str, object]:
    """An answer as JSON: the input's name, then the result's fields, bytes in base64; or its error."""
    if result is None:
        return {"input": one.name, "error": {"code": "UNREADABLE", "message": one.error}}
    if result.error is not None:
        error = result.error
        return {
            "input": one.name,
            "error": {
                "code": error.code,
                "message": error.message,
                "reason": error.reason,
                "violations": [dataclasses.asdict(violation) for violation in error.violations],
                "retry_after_s": error.retry_after_s,
            },
        }
    fields = {key: value for key, value in dataclasses.asdict(result).items() if key != "error"}
    return {"input": one.name, **_rounded(fields)}


def show_vectors(rows: Sequence[tuple[str, Any]]) -> None:
    """The sizes of vectors, and how similar each is to each other one."""
    width = max((len(name) for name, _ in rows), default=0)
    for at, (name, vector) in enumerate(rows):
        similar = "  ".join(f"{vector.similarity(other):5.2f}" for _, other in rows[: at + 1])
        print(f"{name:<{width}}  {len(vector)} numbers  {similar if len(rows) > 1 else ''}".rstrip())


def _read(path: Path) -> Input:
    try:
        return Input(str(path), path.read_bytes())
    except IsADirectoryError:
        return Input(str(path), error=f"is a directory; name its files, e.g. '{path}/*'")
    except OSError as error:
        return Input(str(path), error=(error.strerror or str(error)).lower())


def _batched(inputs: Iterable[Input], size: int) -> Iterator[list[Input]]:
    some: list[Input] = []
    for one in inputs:
        some.append(one)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some


def _rounded(value: Any) -> Any:
    # The wire has 32-bit floats: what lies behind seven digits is an artefact of widening them.
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value
