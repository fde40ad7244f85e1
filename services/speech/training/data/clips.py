"""A recording with what is known of it, and how files become samples at 8 kHz.

Lives here: decoding of trusted files. Not here: which file is what (the readers beside).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from services.speech.pipeline.command import Samples, to_8k
from shared.training.errors import DataError


@dataclass(frozen=True)
class Clip:
    """One recording [T] of a label; `voice` says who speaks (or which file of its set it is), `source` the set."""

    samples: Samples
    label: str
    voice: str
    source: str
    name: str
    real: bool = True


def digest_clips(labels: Iterable[str], *parts: Iterable[Clip]) -> str:
    """SHA-256 of what is trained on, the labels' order included: a run goes on with the same only."""
    sha256 = hashlib.sha256("\n".join(labels).encode())
    for part in parts:
        for clip in part:
            sha256.update(f"\0{clip.label}\0{clip.voice}\0{clip.source}\0{clip.name}\0".encode())
            sha256.update(np.ascontiguousarray(clip.samples).tobytes())
        sha256.update(b"\1")
    return sha256.hexdigest()


def read_clip(path: Path) -> Samples:
    """Decode a file to mono samples [T] at 8 kHz.

    Raises:
        DataError: the file is not there, not audio, empty or not finite.
    """
    try:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        samples = samples.mean(axis=1)
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(
            path,
            expected="a readable audio file",
            got=str(error),
            advice="fetch the data again, or remove the file",
        ) from error
    if len(samples) == 0 or not np.isfinite(samples).all():
        raise DataError(
            path,
            expected="samples",
            got="none" if len(samples) == 0 else "samples that are not finite",
            advice="fetch the data again, or remove the file",
        )
    return to_8k(np.asarray(samples, np.float32), rate_hz)


def require(clips: Sequence[Clip], folder: Path, what: str, advice: str, *, labels: int = 2) -> None:
    """Refuse a set with fewer than `labels` different labels.

    Raises:
        DataError: empty, or of one class where several are to be told apart.
    """
    found = sorted({clip.label for clip in clips})
    if len(found) < labels:
        got = "nothing" if not clips else f"{len(clips)} clips of one label, {found[0]!r}"
        raise DataError(folder, expected=what, got=got, advice=advice)


def voices_of(clips: Iterable[Clip]) -> list[str]:
    """Name who speaks, sorted."""
    return sorted({clip.voice for clip in clips})
