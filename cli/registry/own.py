"""Models of one's own: promoted into the state folder, named in no catalogue, and described by what lies there."""

import json
from collections.abc import Collection
from pathlib import Path

from cli.failure import CommandError


def find_own(state: Path, catalogued: Collection[str]) -> list[str]:
    """Public names of the models on disk that are none of those `catalogued`, by name."""
    from cli.registry.versions import find_on_disk

    return sorted({"/".join(pair) for pair in find_on_disk(state)}.difference(catalogued))


def describe_own(name: str, state: Path) -> dict[str, object]:
    """What there is to say of the version of a model that serves, in the form in which catalogued models are described.

    Raises:
        CommandError: no model is called so, or no version of it is whole.
    """
    from cli.registry.versions import find_place, find_serving
    from shared.inference.manifest import CARD

    place = find_place(name, state)
    serving = find_serving(place)
    if serving is None:
        raise CommandError(
            f"{place.public_name} has no version on disk that is whole; `sensorium models promote` adds one"
        )
    manifest, card = serving.manifest, serving.folder / CARD
    return {
        "model": place.public_name,
        "version": serving.version,
        "task": serving.task,
        "default_for": [],
        "description": serving.description,
        "license": serving.license,
        "license_note": manifest.license_note,
        "training_data": manifest.training_data,
        "shipped": False,
        "pulled": str(serving.folder),
        "sources": [source.model_dump() for source in manifest.source],
        "graphs": json.loads(serving.content)["graphs"],
        "card": card.read_text(encoding="utf-8", errors="replace") if card.is_file() else "",
    }
