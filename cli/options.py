"""Options that several commands share, and what they mean."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]
MaxRuns = Annotated[
    int,
    typer.Option(
        "--max-runs",
        min=0,
        help="Most runs of the model per input: more are steadier and slower. 0 = the service's default, 128.",
    ),
]
ModelNames = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        help="Models (`minilm`, `nlp/minilm`) or services (`nlp`); none means all.",
        show_default=False,
    ),
]
StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        metavar="DIR",
        help="Folder of models, token and logs; default: SENSORIUM_STATE_DIR, else ~/.local/state/sensorium.",
        show_default=False,
        file_okay=False,
    ),
]


def state_folder(option: Path | None) -> Path:
    """The state folder that `--state-dir` names, or the one of the environment."""
    from shared.settings import state_dir

    return (option or state_dir()).expanduser().resolve()
