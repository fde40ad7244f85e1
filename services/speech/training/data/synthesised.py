"""Reader of the voices that `make_voices` has synthesised; training data only."""

import random
from pathlib import Path

from services.speech.training import words
from services.speech.training.data.clips import Clip, read_clip, require

SOURCE = "voices"


def read_voices(data: Path, *, engines: tuple[str, ...] = (), limit: int | None = None) -> list[Clip]:
    """Read `<data>/voices/<engine>/<voice>/<language>/<command>-<take>.flac`; without `engines`, of all.

    `limit`: at most so many clips, of everything there; which ones does not depend on the machine.

    Raises:
        DataError: not there, damaged, or nothing found.
    """
    folder = data / SOURCE
    paths = [
        path
        for path in sorted(folder.rglob("*.flac"))
        if not engines or path.relative_to(folder).parts[0] in engines
    ]
    if limit is not None and limit < len(paths):
        paths = sorted(random.Random(0).sample(paths, limit))  # noqa: S311 - a choice, no secret
    clips = []
    for path in paths:
        engine, voice, language, name = path.relative_to(folder).with_suffix("").parts
        label = words.label_of(language, name.rsplit("-", 1)[0])
        clips.append(Clip(read_clip(path), label, f"{engine}/{voice}", SOURCE, name, real=False))
    require(clips, folder, "synthesised voices", "run `make voices`")
    return clips
