"""What can be refused of a request before anything is decoded; pure.

Not here: what only decoding tells (`pipeline.decoding`), and whether a model is there (the repository).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sensorium.speech.v1 import speech_service_pb2 as pb

from services.speech.limits import Bounds
from services.speech.pipeline.decoding import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ
from shared.errors import InvalidArgument, InvalidArguments

SampleType = np.dtype[np.int16] | np.dtype[np.float32]

# Of RecognizeCommand, as its contract says.
DEFAULT_RESULTS = 5
MAX_RESULTS = 100

_DTYPES: dict[int, SampleType] = {
    pb.Audio.ENCODING_PCM_S16LE: np.dtype("<i2"),
    pb.Audio.ENCODING_PCM_F32LE: np.dtype("<f4"),
}


@dataclass(frozen=True)
class RawFormat:
    """How raw samples are to be read."""

    dtype: SampleType
    rate_hz: int
    channels: int


def check_audio(audio: pb.Audio, bounds: Bounds) -> RawFormat | None:
    """Check the fields of a clip against each other and the bounds; None for a file, which says the rest itself.

    Raises:
        InvalidArgument, InvalidArguments: what is wrong, all at once.
    """
    size = len(audio.content)
    problems = []
    if not 1 <= size <= bounds.max_audio_bytes:
        problems.append(
            InvalidArgument(
                "audio.content",
                expected=f"1 to {bounds.max_audio_bytes} bytes",
                got=f"{size} bytes",
                fix="" if size == 0 else "cut the clip, or send it compressed, e.g. as FLAC or OGG",
            )
        )
    raw = None
    if audio.encoding == pb.Audio.ENCODING_UNSPECIFIED:
        problems += _check_file(audio)
    elif audio.encoding in _DTYPES:
        raw = RawFormat(_DTYPES[audio.encoding], audio.sample_rate_hz, audio.channel_count or 1)
        problems += _check_raw(raw, size)
    else:
        problems.append(
            InvalidArgument(
                "audio.encoding",
                expected="ENCODING_PCM_S16LE, ENCODING_PCM_F32LE, or unset for a file",
                got=f"{audio.encoding}",
            )
        )
    _refuse(problems)
    return raw


def check_language(tag: str, languages: Sequence[str]) -> str:
    """Find the model's language for a BCP-47 tag (`en`, `en-GB`; letters' case does not count); empty means the first.

    Raises:
        InvalidArgument: none of the model's languages.
    """
    primary = tag.split("-", 1)[0].lower()
    if not tag:
        return languages[0]
    if primary not in languages:
        raise InvalidArgument(
            "language",
            expected=f"one of the model's languages: {', '.join(languages)} (with any region, e.g. {languages[0]}-GB)",
            got=repr(tag),
            fix="leave it unset for the model's own",
        )
    return primary


def check_command_language(tag: str, languages: Sequence[str]) -> str:
    """Find the language that commands are said in, empty for any; a model whose labels have none takes no tag.

    Raises:
        InvalidArgument: none of the model's languages.
    """
    if tag and not languages:
        raise InvalidArgument(
            "language",
            expected="unset for a model whose labels have no language",
            got=repr(tag),
            fix="leave it unset",
        )
    return check_language(tag, languages) if tag else ""


def check_threshold(request: pb.DetectSpeechRequest) -> float | None:
    """Take the caller's threshold; None if there is none.

    Raises:
        InvalidArgument: not between 0 and 1, or not a number.
    """
    if not request.HasField("threshold"):
        return None
    if not (math.isfinite(request.threshold) and 0.0 < request.threshold < 1.0):
        raise InvalidArgument("threshold", expected="above 0 and below 1", got=f"{request.threshold:g}")
    return request.threshold


def check_max_results(max_results: int) -> int:
    """Take how many commands the caller wants; 0 is the default.

    Raises:
        InvalidArgument: negative or too many.
    """
    if not 0 <= max_results <= MAX_RESULTS:
        raise InvalidArgument(
            "max_results", expected=f"1 to {MAX_RESULTS}, or 0 for {DEFAULT_RESULTS}", got=f"{max_results}"
        )
    return max_results or DEFAULT_RESULTS


def _check_file(audio: pb.Audio) -> list[InvalidArgument]:
    return [
        InvalidArgument(
            f"audio.{name}",
            expected="unset for a file, which says it itself",
            got=f"{value}",
            fix="unset it, or set `encoding` if these are raw samples",
        )
        for name, value in (("sample_rate_hz", audio.sample_rate_hz), ("channel_count", audio.channel_count))
        if value
    ]


def _check_raw(raw: RawFormat, size: int) -> list[InvalidArgument]:
    problems = []
    if not MIN_RATE_HZ <= raw.rate_hz <= MAX_RATE_HZ:
        problems.append(
            InvalidArgument(
                "audio.sample_rate_hz",
                expected=f"{MIN_RATE_HZ} to {MAX_RATE_HZ} for raw samples",
                got=f"{raw.rate_hz}",
            )
        )
    if not 1 <= raw.channels <= MAX_CHANNELS:
        problems.append(
            InvalidArgument(
                "audio.channel_count", expected=f"1 to {MAX_CHANNELS}, or 0 for 1", got=f"{raw.channels}"
            )
        )
    elif size % (raw.channels * raw.dtype.itemsize):
        problems.append(
            InvalidArgument(
                "audio.content",
                expected=f"whole frames of {raw.channels} x {raw.dtype.itemsize} bytes",
                got=f"{size} bytes",
                fix="check `encoding` and `channel_count`, and that no header stands before the samples",
            )
        )
    return problems


def _refuse(problems: list[InvalidArgument]) -> None:
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise InvalidArguments(problems)
