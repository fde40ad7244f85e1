"""Speech Commands' published folder format: a folder per word, lists for validation and testing, background noise.

    <folder>/<word>/<speaker>_nohash_<number>.wav
    <folder>/validation_list.txt, testing_list.txt      one `<word>/<file>.wav` a line
    <folder>/_background_noise_/*.wav                   minutes of noise, which is mixed in and is no word

Without lists, files are split by a hash of the speaker as the set's README describes (10 % each), so that a speaker is
never on both sides. Source: Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition", 2018.
"""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from services.speech.pipeline.command import Samples
from services.speech.training.data.clips import Clip, read_clip, require
from shared.training.errors import DataError

BACKGROUND = "_background_noise_"
_LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
# Of the published splitting function.
_MOST_FILES = 2**27 - 1
_SHARE_PERCENT = 10.0


@dataclass
class Splits:
    """The three parts, and the noise in the background."""

    train: list[Clip] = field(default_factory=list)
    validation: list[Clip] = field(default_factory=list)
    test: list[Clip] = field(default_factory=list)
    background: list[Samples] = field(default_factory=list)


def read_splits(folder: Path, *, limit: int | None = None) -> Splits:
    """Read a folder; `limit`: at most so many clips of each word.

    Raises:
        DataError: no folder, no or one word, a damaged file, a list that names what is not there.
    """
    if not folder.is_dir():
        raise DataError(
            folder,
            expected="a folder in Speech Commands' format, a folder of WAV files per word",
            got="no such folder",
            advice="unpack the archive and give the folder that holds the words",
        )
    found = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.glob("*/*.wav"))
        if not path.parent.name.startswith(("_", "."))
    }
    listed = {part: _read_list(folder, name, found) for part, name in _LISTS.items()}
    parts = Splits(background=[read_clip(path) for path in sorted((folder / BACKGROUND).glob("*.wav"))])
    places = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    taken: dict[str, int] = {}
    for name, path in found.items():
        label = path.parent.name
        taken[label] = taken.get(label, 0) + 1
        if limit is not None and taken[label] > limit:
            continue
        clip = Clip(read_clip(path), label, speaker_of(path.name), folder.name, name)
        places[_part_of(name, listed)].append(clip)
    require(
        parts.train,
        folder,
        "words to train on, a folder of WAV files each",
        "check that the folders of the words are here",
    )
    known = {clip.label for clip in parts.train}
    for part in ("validation", "test"):
        if strange := sorted({clip.label for clip in places[part]} - known):
            raise DataError(
                folder / _LISTS[part],
                expected="words that are also trained on",
                got=", ".join(strange[:5]),
                advice="leave some of their files out of the lists",
            )
    return parts


def speaker_of(name: str) -> str:
    """Who speaks, by the file's name: what stands before `_nohash_`."""
    return re.sub(r"_nohash_.*$", "", Path(name).stem)


def split_by_speaker(name: str) -> str:
    """`train`, `validation` or `test`, by the published hash of the speaker."""
    number = int(hashlib.sha1(speaker_of(name).encode(), usedforsecurity=False).hexdigest(), 16)
    percent = number % (_MOST_FILES + 1) * (100.0 / _MOST_FILES)
    if percent < _SHARE_PERCENT:
        return "validation"
    return "test" if percent < 2 * _SHARE_PERCENT else "train"


def _part_of(name: str, listed: dict[str, set[str] | None]) -> str:
    if all(names is None for names in listed.values()):
        return split_by_speaker(name)
    return next((part for part, names in listed.items() if names and name in names), "train")


def _read_list(folder: Path, name: str, found: dict[str, Path]) -> set[str] | None:
    path = folder / name
    if not path.exists():
        return None
    try:
        names = {line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()}
    except UnicodeDecodeError as error:
        raise DataError(
            path,
            expected="lines like word/file.wav",
            got="bytes that are no text",
            advice="fetch the list again",
        ) from error
    if missing := sorted(names - found.keys()):
        raise DataError(
            path,
            expected="files that are in the folder",
            got=f"{len(missing)} that are not, first {missing[0]!r}",
            advice="take the list that came with these recordings",
        )
    return names
