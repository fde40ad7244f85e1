"""From probabilities of speech to stretches of a clip.

Lives here: Silero's segmentation and the cutting of long clips at their pauses. Not here: running a model.
Source: silero-vad 6.2.3, `get_speech_timestamps_from_probs`, whose rules and defaults `speech_spans` follows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.speech.pipeline.constants import DetectorConstants, RecognizerConstants

Probability = NDArray[np.float32]

# How far below the threshold a chunk must fall to end a segment, and the least that may be; the authors' values.
_HYSTERESIS = 0.15
_MIN_NEGATIVE_THRESHOLD = 0.01


class Span(NamedTuple):
    """Samples `start` (inclusive) to `end` (exclusive) of a clip."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Number of samples."""
        return self.end - self.start


@dataclass(frozen=True)
class SpeechRule:
    """When a run of chunks counts as speech; lengths in samples."""

    threshold: float
    negative_threshold: float
    min_speech: int
    min_silence: int
    pad: int
    chunk: int

    @classmethod
    def of(cls, constants: DetectorConstants, threshold: float | None = None) -> "SpeechRule":
        """Take the rule from a model's constants, with the caller's threshold if there is one."""
        rate = constants.sample_rate
        negative = constants.negative_threshold
        if threshold is not None:
            negative = max(threshold - _HYSTERESIS, _MIN_NEGATIVE_THRESHOLD)
        return cls(
            threshold=constants.threshold if threshold is None else threshold,
            negative_threshold=negative,
            min_speech=int(constants.min_speech_s * rate),
            min_silence=int(constants.min_silence_s * rate),
            pad=int(constants.speech_pad_s * rate),
            chunk=constants.chunk_samples,
        )


@dataclass(frozen=True)
class StretchRule:
    """How speech is put together for a recogniser; lengths in samples.

    longest: of a stretch, context included. join_gap: pauses up to this stay inside. context: heard on both sides.
    shortest: what is shorter holds no word. chunk: of the probabilities.
    """

    longest: int
    join_gap: int
    context: int
    shortest: int
    chunk: int

    @classmethod
    def of(cls, constants: RecognizerConstants, *, chunk: int) -> "StretchRule":
        """Take the rule from a recogniser's constants."""
        rate = constants.sample_rate
        return cls(
            longest=int(constants.max_stretch_s * rate),
            join_gap=int(constants.join_gap_s * rate),
            context=int(constants.context_s * rate),
            shortest=constants.min_samples,
            chunk=chunk,
        )


def speech_spans(probability: Probability, length: int, rule: SpeechRule) -> list[Span]:
    """Find the spans of speech in a clip of `length` samples from one probability per chunk [ceil(length / chunk)].

    In order, without overlap, within the clip.
    """
    found: list[Span] = []
    start = quiet_from = -1  # -1: not in speech; no quiet chunk since the last loud one
    for index, value in enumerate(probability.tolist()):
        at = index * rule.chunk
        if value >= rule.threshold:
            quiet_from = -1
            if start < 0:
                start = at
        elif value < rule.negative_threshold and start >= 0:
            if quiet_from < 0:
                quiet_from = at
            if at - quiet_from >= rule.min_silence:
                if quiet_from - start > rule.min_speech:
                    found.append(Span(start, quiet_from))
                start = quiet_from = -1
    if start >= 0 and length - start > rule.min_speech:
        found.append(Span(start, length))
    return _pad(found, length, rule.pad)


def _pad(spans: Sequence[Span], length: int, pad: int) -> list[Span]:
    """Widen each span by `pad`, or by half of the gap to its neighbour where that is less."""
    padded: list[Span] = []
    for index, (start, end) in enumerate(spans):
        gap_before = start - spans[index - 1].end if index else start * 2
        gap_after = spans[index + 1].start - end if index + 1 < len(spans) else (length - end) * 2
        padded.append(Span(start - min(pad, gap_before // 2), end + min(pad, gap_after // 2)))
    return padded


def stretches(
    spans: Sequence[Span], probability: Probability, *, length: int, rule: StretchRule
) -> list[Span]:
    """Make stretches for a recogniser out of the spans of speech in a clip of `length` samples.

    Spans are joined over short pauses, what is too long is cut where speech is least likely, and each stretch gets some
    of what is around it. In order, without overlap, within the clip.
    """
    longest = rule.longest - 2 * rule.context
    joined: list[Span] = []
    for span in spans:
        last = joined[-1] if joined else None
        if last and span.start - last.end <= rule.join_gap and span.end - last.start <= longest:
            joined[-1] = Span(last.start, span.end)
        else:
            joined.append(span)
    parts = [part for span in joined for part in _cut(span, probability, longest, rule.chunk)]
    return [span for span in _pad(parts, length, rule.context) if span.length >= rule.shortest]


def _cut(span: Span, probability: Probability, longest: int, chunk: int) -> list[Span]:
    parts: list[Span] = []
    start = span.start
    while span.end - start > longest:
        # The quietest chunk of the last quarter: parts stay long, and somebody who talks on breathes in 5 s.
        first = -(-(start + longest * 3 // 4) // chunk)
        last = (start + longest) // chunk
        quietest = first + int(np.argmin(probability[first:last]))
        # The chunk's middle: its edges may belong to the words beside it.
        end = quietest * chunk + chunk // 2
        parts.append(Span(start, end))
        start = end
    parts.append(Span(start, span.end))
    return parts
