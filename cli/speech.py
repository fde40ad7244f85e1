"""`sensorium speech`: ask about recorded speech."""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from sensorium import Pcm
from sensorium.results import SpeechSegments, SpokenCommand, Transcript

from cli.calling import Address, Files, Model, Timeout, answer, open_client, read_files, show_vectors
from cli.options import Json

app = typer.Typer(
    help="Transcribe clips, find speech in them, recognize commands, compare voices.", no_args_is_help=True
)

RawRate = Annotated[
    int | None,
    typer.Option("--raw-rate", help="The files are raw samples of this rate per second.", show_default=False),
]
RawEncoding = Annotated[str, typer.Option("--raw-encoding", help="Of raw samples: s16le or f32le.")]
RawChannels = Annotated[
    int, typer.Option("--raw-channels", min=1, max=8, help="Of raw samples, interleaved.")
]


@app.command()
def transcribe(
    files: Files,
    language: Annotated[
        str, typer.Option(help="BCP-47 tag; default: the model's own.", show_default=False)
    ] = "",
    segments: Annotated[bool, typer.Option("--segments", help="Say when each stretch was spoken.")] = False,
    raw_rate: RawRate = None,
    raw_encoding: RawEncoding = "s16le",
    raw_channels: RawChannels = 1,
    model: Model = "",
    json_lines: Json = False,
    address: Address = None,
    timeout: Timeout = 300.0,
) -> int:
    """Write down what is said; of several clips each text follows its file's name."""
    several = len(files) > 1 or any(character in files[0] for character in "*?[")

    def show(name: str, result: Transcript) -> None:
        if several:
            print(f"{name}:")
        if not segments:
            print(result.text)
            return
        for segment in result.segments:
            cut = "  (cut off)" if segment.stopped_early else ""
            print(f"{segment.start_s:8.2f} {segment.end_s:8.2f}  {segment.text}{cut}")

    clip = _clip(raw_rate, raw_encoding, raw_channels)
    with open_client(address, timeout) as client:
        return answer(
            read_files(files),
            lambda clips: client.transcribe([clip(one) for one in clips], model=model, language=language),
            show,
            json_lines=json_lines,
        )


@app.command()
def detect(
    files: Files,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Probability from which on it is speech; default: the model's own.", show_default=False
        ),
    ] = None,
    raw_rate: RawRate = None,
    raw_encoding: RawEncoding = "s16le",
    raw_channels: RawChannels = 1,
    model: Model = "",
    json_lines: Json = False,
    address: Address = None,
    timeout: Timeout = 120.0,
) -> int:
    """Say when somebody speaks, in seconds."""

    def show(name: str, result: SpeechSegments) -> None:
        print(f"{name}: {result.speech_s:.2f} s of speech in {result.audio_s:.2f} s")
        for segment in result.segments:
            print(f"{segment.start_s:8.2f} {segment.end_s:8.2f}")

    clip = _clip(raw_rate, raw_encoding, raw_channels)
    with open_client(address, timeout) as client:
        return answer(
            read_files(files),
            lambda clips: client.detect_speech(
                [clip(one) for one in clips], model=model, threshold=threshold
            ),
            show,
            json_lines=json_lines,
        )


@app.command()
def embed(
    files: Files,
    raw_rate: RawRate = None,
    raw_encoding: RawEncoding = "s16le",
    raw_channels: RawChannels = 1,
    model: Model = "",
    json_lines: Json = False,
    address: Address = None,
    timeout: Timeout = 120.0,
) -> int:
    """Turn voices into vectors (`--json` prints them) and say how similar they are to each other."""
    rows: list[tuple[str, Any]] = []
    clip = _clip(raw_rate, raw_encoding, raw_channels)
    with open_client(address, timeout) as client:
        code = answer(
            read_files(files),
            lambda clips: client.embed_speaker([clip(one) for one in clips], model=model),
            lambda name, result: rows.append((name, result)),
            json_lines=json_lines,
        )
    show_vectors(rows)
    return code


@app.command()
def command(
    files: Files,
    max_results: Annotated[int, typer.Option(min=1, max=100, help="Commands per clip.")] = 5,
    language: Annotated[
        str, typer.Option(metavar="TAG", help="Language that is spoken; without it any that the model knows.")
    ] = "",
    raw_rate: RawRate = None,
    raw_encoding: RawEncoding = "s16le",
    raw_channels: RawChannels = 1,
    model: Model = "",
    json_lines: Json = False,
    address: Address = None,
    timeout: Timeout = 60.0,
) -> int:
    """Say which command is spoken in each short clip, and in which language."""

    def show(name: str, result: SpokenCommand) -> None:
        print(name)
        for one in result.commands:
            print(f"  {one.score:6.1%}  {one.label}{f'  ({one.language})' if one.language else ''}")

    clip = _clip(raw_rate, raw_encoding, raw_channels)
    with open_client(address, timeout) as client:
        return answer(
            read_files(files),
            lambda clips: client.recognize_command(
                [clip(one) for one in clips], model=model, max_results=max_results, language=language
            ),
            show,
            json_lines=json_lines,
        )


def _clip(rate: int | None, encoding: str, channels: int) -> Callable[[bytes], bytes | Pcm]:
    """Turns a file's content into what the client takes."""
    if rate is None:
        return lambda content: content
    return lambda content: Pcm(content, rate, encoding, channels)
