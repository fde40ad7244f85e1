"""Which calls can be streamed over many inputs, and what becomes of one input. How they go on side by side is in
`sensorium.stream` and `sensorium.aio_stream`.
"""

import dataclasses
import inspect
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sensorium.calls import nlp, speech, vision
from sensorium.calls.plan import Plan, check_timeout
from sensorium.errors import DeadlineExceeded, InvalidArgument
from sensorium.results import (
    ImageEmbedding,
    ImageExplanation,
    ImageFaces,
    ImageLabels,
    ImageObjects,
    ImageText,
    Result,
    SpeakerEmbedding,
    SpeechSegments,
    SpokenCommand,
    TextEmbedding,
    TextExplanation,
    TextLabels,
    TextLanguages,
    Transcript,
)

T = TypeVar("T")

# Inputs of a stream under way: enough to keep a few replicas at work, and to fill the batches of one.
AT_ONCE = 8
# By how much a message's own timeout is over before a mesh that said nothing of it is taken for gone: its word comes first.
GRACE_S = 5.0
# Method of the clients -> (what makes its plan, what its results are).
_CALLS: Mapping[str, tuple[Callable[..., Plan[Any]], type[Result]]] = {
    "classify_image": (vision.classify_image, ImageLabels),
    "detect_objects": (vision.detect_objects, ImageObjects),
    "detect_faces": (vision.detect_faces, ImageFaces),
    "read_text": (vision.read_text, ImageText),
    "embed_image": (vision.embed_image, ImageEmbedding),
    "explain_image": (vision.explain_image, ImageExplanation),
    "embed_text": (nlp.embed_text, TextEmbedding),
    "classify_text": (nlp.classify_text, TextLabels),
    "detect_language": (nlp.detect_language, TextLanguages),
    "explain_text": (nlp.explain_text, TextExplanation),
    "transcribe": (speech.transcribe, Transcript),
    "detect_speech": (speech.detect_speech, SpeechSegments),
    "recognize_command": (speech.recognize_command, SpokenCommand),
    "embed_speaker": (speech.embed_speaker, SpeakerEmbedding),
}


@dataclass(frozen=True)
class Settled:
    """The result of an input that took no call."""

    result: Any

    def wait(self) -> Any:
        """The result."""
        return self.result

    def cancel(self) -> None:
        """There is nothing to cancel."""


@dataclass(frozen=True)
class StreamedCall:
    """A method of a client with its options, to be made of one input after the other."""

    make: Callable[..., Plan[Any]]
    kind: type[Result]
    options: Mapping[str, Any]
    timeout_s: float | None
    priority: Any

    def plan(self, given: Any) -> Plan[Any] | Settled:
        """The call of one input; its result if it cannot be sent. Raises TypeError if its type is wrong."""
        try:
            plan = self.make([given], **self.options)
        except (ValueError, OSError) as error:
            return Settled(self.kind(error=unreadable(error)))
        return dataclasses.replace(plan, keeps_failures=True)


def streamed(client: object, call: Callable[..., Any], options: Mapping[str, Any]) -> StreamedCall:
    """The call that a method of `client` stands for.

    Raises:
        TypeError: it is none that takes inputs, or does not take these options.
    """
    name = getattr(call, "__name__", "")
    if name not in _CALLS or getattr(call, "__self__", None) is not client:
        raise TypeError(
            f"call: expected a method of this client that takes inputs, {', '.join(_CALLS)}; got {call!r}"
        )
    bound = inspect.signature(call).bind(None, **options)
    bound.apply_defaults()
    _, *given = bound.arguments.items()
    arguments = dict(given)
    timeout_s, priority = arguments.pop("timeout_s"), arguments.pop("priority")
    if timeout_s is not None:
        timeout_s = check_timeout(timeout_s)
    return StreamedCall(*_CALLS[name], arguments, timeout_s, priority)


def unanswered(timeout_s: float) -> DeadlineExceeded:
    """The error of a stream whose mesh does not even say that a message is late."""
    return DeadlineExceeded(
        f"the mesh said nothing of a message for {timeout_s:g} s and {GRACE_S:g} more; ask again",
        code="DEADLINE_EXCEEDED",
    )


def unreadable(error: Exception) -> InvalidArgument:
    """The error of an input that could not be read, or is no such thing."""
    described = InvalidArgument(str(error), code="INVALID_ARGUMENT", reason="INPUT_UNREADABLE")
    described.__cause__ = error
    return described


def check_inputs(inputs: T) -> T:
    """Many inputs. Raises TypeError for a single one that can be iterated as well, letter by letter or key by key."""
    if isinstance(inputs, str | bytes | bytearray | memoryview | Mapping):
        raise TypeError(
            f"inputs: expected many of them, e.g. a list or a generator, got one {type(inputs).__name__}"
        )
    return inputs


def check_at_once(at_once: int) -> int:
    """How many inputs may be under way. Raises TypeError or ValueError."""
    try:
        at_once = operator.index(at_once)
    except TypeError:
        raise TypeError(f"at_once: expected a whole number, got {at_once!r}") from None
    if at_once < 1:
        raise ValueError(f"at_once: expected 1 or more, got {at_once}")
    return at_once
