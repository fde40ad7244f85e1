"""The held-out items of a model: read for a comparison, or, where there are none, how one comes by them.

Not here: their format (`shared.inference.heldout`), asking about them (`trial`).
"""

import re

from cli.failure import CommandError
from cli.place import ROOT
from cli.registry.options import UNDECIDED
from cli.registry.versions import Place
from shared.inference.artifact import Artifact
from shared.inference.heldout import HeldOutError, HeldOutSet, heldout_folder, read_heldout


def read_items(place: Place) -> HeldOutSet | None:
    """The held-out items of a model, None if it has none.

    Raises:
        CommandError: they cannot be used, so that nothing can be told.
    """
    folder = heldout_folder(place.state, place.service, place.name)
    if not folder.exists():
        return None
    try:
        held_out = read_heldout(folder)
    except HeldOutError as error:
        raise CommandError(str(error), exit_code=UNDECIDED) from error
    if held_out.service != place.service:
        raise CommandError(
            f"{folder}: expected items for {place.service}, got some for {held_out.service}",
            exit_code=UNDECIDED,
        )
    return held_out


def explain_missing(place: Place, candidate: Artifact) -> str:
    """That there are no items, where they would be, and which command makes them."""
    folder = heldout_folder(place.state, place.service, place.name)
    said = f"there are no held-out items to compare it on: {folder} is missing"
    makefile = ROOT / "Makefile"
    target = f"train-{place.name}"
    if makefile.is_file() and re.search(
        rf"^{re.escape(target)}:", makefile.read_text(encoding="utf-8"), re.MULTILINE
    ):
        return f"{said}; `make {target}` writes it, as it releases what it has trained"
    if command := candidate.manifest.made.command:
        return f"{said}; the training writes it, as it releases what it has trained: {command}"
    return f"{said}; a training writes it with shared.inference.heldout.write_heldout"
