"""Letters from KLettres, a game that teaches alphabets: other voices, other rooms, for tests only.

The package `klettres-data` is published under the GPL, so it is measured with and never trained on.
"""

from pathlib import Path

from services.speech.training import words
from services.speech.training.data.clips import Clip, read_clip, require

# Folder, language; letters of French are numbered in the order of the alphabet.
_FOLDERS = (("en", "en"), ("en_GB", "en"), ("es", "es"), ("fr", "fr"), ("it", "it"))


def read_letters(data: Path) -> list[Clip]:
    """Read the Latin letters of four languages, five voices.

    Raises:
        DataError: not there, damaged, or nothing found.
    """
    folder = data / "klettres" / "usr" / "share" / "klettres"
    clips = []
    for name, language in _FOLDERS:
        for path in sorted((folder / name / "alpha").glob("*.ogg")):
            letter = _letter(path.stem)
            if letter:
                clips.append(
                    Clip(
                        read_clip(path),
                        words.label_of(language, letter),
                        f"klettres-{name}",
                        "klettres",
                        path.stem,
                    )
                )
    require(clips, folder, "recordings of letters", "run `sensorium data pull klettres`")
    return clips


def _letter(stem: str) -> str:
    if stem.startswith("a-") and stem[2:].isdigit():
        return words.LATIN[int(stem[2:])]
    return stem.lower() if len(stem) == 1 and stem.lower() in words.LATIN else ""
