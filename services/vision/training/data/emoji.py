"""Real pictures to try a training on: emoji by two groups of artists, as the npm packages emoji-datasource-twitter and
emoji-datasource-google hold them (64 x 64 PNG), in coarse classes by the Unicode emoji list's subgroups.

What is trained on and what is held out share neither an artist nor an emoji, so a network cannot know a picture by
heart. Twemoji's pictures are CC-BY-4.0, Noto's Apache-2.0.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from shared.training.errors import DataError

# Class -> subgroups of the Unicode list, by their first words.
CLASSES = {
    "animal": ("animal-", "monkey-face"),
    "building": ("place-building", "place-religious", "hotel"),
    "clothing": ("clothing",),
    "face": ("face-",),
    "flag": ("country-flag",),
    "food": ("food-", "drink"),
    "plant": ("plant-",),
    "sky": ("sky & weather",),
    "vehicle": ("transport-ground", "transport-water", "transport-air"),
}
# Faces and flags would outnumber everything else.
MOST = 120
TRAIN_ARTIST, HELD_OUT_ARTIST = "twitter", "google"
HELD_OUT_SHARE = 0.35
ADVICE = "run `sensorium data pull emoji`"


def write_folder(package: Path, folder: Path) -> dict[str, int]:
    """Write `folder`/{train,held_out}/<class>/<emoji>.png out of the packages' files; returns the two parts' sizes.

    Raises:
        DataError: the list of emoji or a picture is missing or damaged.
    """
    path = package / "emoji.json"
    try:
        emoji = json.loads(path.read_bytes())
        listed = [(entry["subcategory"], entry["image"], entry["short_name"]) for entry in emoji]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            path, expected="the list of emoji", got=f"another content ({error})", advice=ADVICE
        ) from error
    sizes = {"train": 0, "held_out": 0}
    for label, subgroups in CLASSES.items():
        # An emoji that one of the artists has not drawn is left out.
        mine = sorted(
            (image, name)
            for subgroup, image, name in listed
            if subgroup.startswith(subgroups)
            and all(_find(package, artist, image).is_file() for artist in (TRAIN_ARTIST, HELD_OUT_ARTIST))
        )
        if not mine:
            raise DataError(package, expected=f"pictures of the class {label}", got="none", advice=ADVICE)
        order = np.random.default_rng(0).permutation(len(mine))[:MOST]
        apart = round(len(order) * HELD_OUT_SHARE)
        for place, index in enumerate(order):
            image, name = mine[index]
            part, artist = ("held_out", HELD_OUT_ARTIST) if place < apart else ("train", TRAIN_ARTIST)
            target = folder / part / label / f"{name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_find(package, artist, image), target)
            sizes[part] += 1
    return sizes


def _find(package: Path, artist: str, image: str) -> Path:
    return package / "img" / artist / "64" / image
