"""Prompts of the telephone exchange Asterisk: digits, letters and other words of one voice per package, WAV or GSM.

Lives here: which package is whose voice in which language, and which of its files are commands. Sources: the packages
`asterisk-core-sounds-*-wav`, `asterisk-prompt-it-menardi-wav`, `asterisk-prompt-fr-armelle`, `asterisk-prompt-es-co`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from services.speech.pipeline.command import RATE_HZ, is_silent
from services.speech.training import words
from services.speech.training.data.clips import Clip, read_clip, require
from shared.training.errors import DataError


@dataclass(frozen=True)
class Package:
    """One data set: its folder, whose voice it is and in which language; `trained` is False for tests only."""

    name: str
    voice: str
    language: str
    trained: bool = True


# The English and the Spanish prompts are the same speaker, so they share a voice and are left out together.
PACKAGES = (
    Package("asterisk-en", "allison", "en"),
    Package("asterisk-es", "allison", "es"),
    # Published under the GPL: heard in tests, never in training, so that no question arises about the weights.
    Package("asterisk-es-co", "colombia", "es", trained=False),
    Package("asterisk-fr", "june", "fr"),
    Package("asterisk-fr-armelle", "armelle", "fr"),
    Package("asterisk-it", "carlo", "it"),
    Package("asterisk-it-menardi", "menardi", "it"),
    Package("asterisk-ru", "ivrvoice", "ru"),
)
_SUFFIXES = frozenset({".wav", ".gsm"})


def read_commands(data: Path, packages: Sequence[Package] = PACKAGES) -> list[Clip]:
    """Read the digits and letters of the packages under `data`.

    Raises:
        DataError: a package is not there, a file is damaged, or nothing is found.
    """
    clips = []
    for package in packages:
        folder = _folder(data, package)
        for path in _files(folder):
            label = _label(path, package.language)
            if label:
                clips.append(
                    Clip(
                        read_clip(path), label, package.voice, package.name, f"{path.parent.name}/{path.stem}"
                    )
                )
    require(
        clips, data, "digits and letters in the folders of Asterisk's packages", "run `sensorium data pull`"
    )
    return clips


def read_other(
    data: Path,
    packages: Sequence[Package] = PACKAGES,
    *,
    longest_s: float = 30.0,
    limit: int | None = None,
) -> list[Clip]:
    """Read what else the voices say: words and sentences, labelled `unknown`; files of silence are left out.

    `limit`: about so many of each package, from all over it.
    """
    clips = []
    for package in packages:
        folder = _folder(data, package)
        paths = list(_files(folder))
        for path in paths[:: max(1, len(paths) // limit)] if limit else paths:
            if path.parent.name in ("digits", "letters", "silence") or path.stem in (
                "beep",
                "beeperr",
                "tt-monkeys",
            ):
                continue
            # One of the Russian files holds a header and no sample.
            if soundfile.info(path).frames == 0:
                continue
            samples = read_clip(path)
            if len(samples) <= longest_s * RATE_HZ and not is_silent(samples):
                clips.append(
                    Clip(
                        samples, words.UNKNOWN, package.voice, package.name, f"{path.parent.name}/{path.stem}"
                    )
                )
    return clips


def _label(path: Path, language: str) -> str:
    name = path.stem
    if path.parent.name == "digits" and name.isdigit() and len(name) == 1:
        return words.label_of(language, name)
    if path.parent.name == "letters":
        # The Russian voice says the letters' English names.
        language = "en" if language == "ru" else language
        if name == "zed" and language == "en":
            return words.label_of(language, "z")
        if len(name) == 1 and name in words.LATIN:
            return words.label_of(language, name)
    return ""


def _folder(data: Path, package: Package) -> Path:
    folder = data / package.name
    if not folder.is_dir():
        raise DataError(
            folder,
            expected="a package of Asterisk's prompts",
            got="no such folder",
            advice=f"run `sensorium data pull {package.name}`",
        )
    return folder


def _files(folder: Path) -> Iterator[Path]:
    # `sounds/digits/es` in one package is a link to `sounds/es/digits`; links are not followed.
    return (path for path in sorted(folder.rglob("*")) if path.suffix in _SUFFIXES and path.is_file())
