"""What the commands about versions share: their options, whose signatures are trusted, what is shown while they run."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import show_work

if TYPE_CHECKING:
    from cli.registry.progress import Watcher
    from shared.inference.signature import SignatureSettings

# It cannot be told. Beside 0 (not worse, promoted, whole), 1 (worse, refused, damaged) and 2 (the command line was wrong).
UNDECIDED = 3

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A model, e.g. `nlp/sentiment`, or `sentiment` while it is unique.",
        show_default=False,
    ),
]
Trusted = Annotated[
    list[Path] | None,
    typer.Option(
        "--trusted",
        metavar="FILE",
        help="Public keys (a JWK set) whose signatures are trusted; default: this machine's own.",
        show_default=False,
        dir_okay=False,
    ),
]
Margin = Annotated[
    float,
    typer.Option(
        "--margin",
        min=0.0,
        max=1.0,
        help="How much of accuracy may be lost at most (0.005 is half a point). The 95 % interval of the difference "
        "decides: wholly above the loss, not worse; wholly below it, worse; else the items are too few to tell.",
    ),
]


def find_trust(state: Path, trusted: Sequence[Path] | None) -> "SignatureSettings":
    """Those whose public keys are named, else this machine itself."""
    from cli.registry.key import own_trust
    from shared.inference.signature import SignatureSettings

    return SignatureSettings(trusted=tuple(trusted), required=True) if trusted else own_trust(state)


def watching() -> "AbstractContextManager[Watcher]":
    """A bar on a terminal, lines elsewhere."""
    from cli.registry.progress import Bar, Lines

    return show_work(Lines, Bar)
