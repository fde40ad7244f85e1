"""What the calls answer: frozen values in plain Python. Times are seconds, places are pixels of the upright image.

A result of a list call whose input was refused has its `error` set and is otherwise empty.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import overload

from sensorium.errors import SensoriumError


@dataclass(frozen=True)
class Model:
    """The model that answered, e.g. `vision/efficientnet-lite0` at version `1`."""

    name: str = ""
    version: str = ""


@dataclass(frozen=True)
class Timing:
    """Where the call's time went inside the replica, in seconds; the longest of any one input."""

    preprocess_s: float = 0.0
    queue_s: float = 0.0
    compute_s: float = 0.0
    postprocess_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Result:
    """What every answer has: the model, the times, and the error if this one input was refused."""

    model: Model = Model()
    timing: Timing = Timing()
    error: SensoriumError | None = None


@dataclass(frozen=True)
class Point:
    """Pixels from the left and from the top."""

    x: float
    y: float


@dataclass(frozen=True)
class Box:
    """An upright rectangle in pixels."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float


@dataclass(frozen=True)
class Label:
    """A label of the model's set, its position there, and its probability, 0 to 1."""

    label: str
    index: int
    score: float


@dataclass(frozen=True, kw_only=True)
class ImageLabels(Result):
    """What an image shows, best first."""

    labels: tuple[Label, ...] = ()

    @property
    def label(self) -> str:
        """The best label; empty if there is none."""
        return self.labels[0].label if self.labels else ""

    @property
    def score(self) -> float:
        """Probability of the best label."""
        return self.labels[0].score if self.labels else 0.0


@dataclass(frozen=True)
class DetectedObject:
    """An object, how sure the model is, and where it is."""

    label: str
    index: int
    score: float
    box: Box


@dataclass(frozen=True, kw_only=True)
class ImageObjects(Result):
    """The objects in an image, highest score first."""

    objects: tuple[DetectedObject, ...] = ()


@dataclass(frozen=True)
class Face:
    """A face; landmarks: `left_eye`, `right_eye`, `nose_tip`, `mouth_left`, `mouth_right`, as the viewer sees them."""

    score: float
    box: Box
    landmarks: Mapping[str, Point]


@dataclass(frozen=True, kw_only=True)
class ImageFaces(Result):
    """The faces in an image, highest score first."""

    faces: tuple[Face, ...] = ()


@dataclass(frozen=True)
class TextLine:
    """A line of text, its confidence, and its corners clockwise from where the text begins."""

    text: str
    score: float
    corners: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class ImageText(Result):
    """The text in an image: all of it, and line by line."""

    text: str = ""
    lines: tuple[TextLine, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Embedding(Result, Sequence[float]):
    """A vector of unit length; it is a sequence of floats, so `numpy.asarray(embedding)` takes it."""

    values: tuple[float, ...] = ()

    def similarity(self, other: "Embedding | Sequence[float]") -> float:
        """Cosine similarity to another vector of the same model: the dot product, -1 to 1.

        Raises ValueError if the lengths differ.
        """
        others = other.values if isinstance(other, Embedding) else other
        if len(others) != len(self.values):
            raise ValueError(f"other: expected a vector of {len(self.values)} numbers, got {len(others)}")
        return math.fsum(a * b for a, b in zip(self.values, others, strict=True))

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[float, ...]: ...
    def __getitem__(self, index: int | slice) -> float | tuple[float, ...]:
        return self.values[index]

    def __iter__(self) -> Iterator[float]:
        return iter(self.values)


@dataclass(frozen=True, kw_only=True)
class ImageEmbedding(Embedding):
    """What an image looks like, as a vector."""


@dataclass(frozen=True, kw_only=True)
class TextEmbedding(Embedding):
    """What a text means, as a vector.

    truncated: its end did not count. reliable: the model knows the text's script.
    """

    token_count: int = 0
    truncated: bool = False
    reliable: bool = True


@dataclass(frozen=True)
class LabelScore:
    """A label and its score; all of a text's scores sum to 1.

    Of a model with labels of its own the score is a probability and similarity is None; of your labels it is the share among
    them, and similarity the cosine similarity to the text.
    """

    label: str
    score: float
    similarity: float | None = None


@dataclass(frozen=True, kw_only=True)
class TextLabels(Result):
    """How well each label fits a text, best first. truncated, reliable: see `TextEmbedding`."""

    labels: tuple[LabelScore, ...] = ()
    truncated: bool = False
    reliable: bool = True

    @property
    def label(self) -> str:
        """The best label; empty if there is none."""
        return self.labels[0].label if self.labels else ""

    @property
    def score(self) -> float:
        """Score of the best label."""
        return self.labels[0].score if self.labels else 0.0


@dataclass(frozen=True)
class Language:
    """A language as a BCP-47 tag, and its probability, 0 to 1."""

    code: str
    score: float


@dataclass(frozen=True, kw_only=True)
class TextLanguages(Result):
    """In which languages a text may be written, best first. truncated: its end did not count.

    reliable: the model knows the text's script, and the best language's score is above the model's own threshold.
    """

    languages: tuple[Language, ...] = ()
    truncated: bool = False
    reliable: bool = False

    @property
    def language(self) -> str:
        """The best language; empty if there is none."""
        return self.languages[0].code if self.languages else ""

    @property
    def score(self) -> float:
        """Probability of the best language."""
        return self.languages[0].score if self.languages else 0.0


@dataclass(frozen=True)
class TextAttribution:
    """A stretch of a text, `text[begin:end]`, and what it adds to the label's score; below 0 it speaks against it."""

    text: str
    begin: int
    end: int
    attribution: float


@dataclass(frozen=True, kw_only=True)
class TextExplanation(Result):
    """What in a text speaks for a label, in the order of the text. base_score: the label's without any of the words.

    run_count: how often the model was run. truncated, reliable: see `TextEmbedding`.
    """

    label: str = ""
    score: float = 0.0
    base_score: float = 0.0
    attributions: tuple[TextAttribution, ...] = ()
    run_count: int = 0
    truncated: bool = False
    reliable: bool = True


@dataclass(frozen=True, kw_only=True)
class ImageExplanation(Result):
    """Where in an image something speaks for a label. attributions: rows of a grid over the upright image, from the top
    left; each number is what its cell adds to the label's score. base_score: the label's with everything covered.

    heat_map: a PNG of the image's proportions, at most 512 pixels wide and high, red where it speaks for the label.
    run_count: how often the model was run.
    """

    label: str = ""
    index: int = 0
    score: float = 0.0
    base_score: float = 0.0
    attributions: tuple[tuple[float, ...], ...] = ()
    heat_map: bytes = b""
    run_count: int = 0


@dataclass(frozen=True)
class Command:
    """A command or kind of sound, the language in which it is spoken (empty if the model knows none), its probability."""

    label: str
    language: str
    score: float


@dataclass(frozen=True, kw_only=True)
class SpokenCommand(Result):
    """Which command is spoken in a clip, best first."""

    commands: tuple[Command, ...] = ()
    audio_s: float = 0.0

    @property
    def label(self) -> str:
        """The best command; empty if there is none."""
        return self.commands[0].label if self.commands else ""

    @property
    def score(self) -> float:
        """Probability of the best command."""
        return self.commands[0].score if self.commands else 0.0


@dataclass(frozen=True)
class Segment:
    """A stretch of a clip, in seconds from its beginning."""

    start_s: float
    end_s: float


@dataclass(frozen=True)
class TranscriptSegment(Segment):
    """What is said in one stretch. stopped_early: decoding was cut off because the model repeated itself."""

    text: str = ""
    stopped_early: bool = False


@dataclass(frozen=True, kw_only=True)
class Transcript(Result):
    """What is said in a clip."""

    text: str = ""
    segments: tuple[TranscriptSegment, ...] = ()
    audio_s: float = 0.0
    language: str = ""


@dataclass(frozen=True, kw_only=True)
class SpeechSegments(Result):
    """When somebody speaks in a clip."""

    segments: tuple[Segment, ...] = ()
    speech_s: float = 0.0
    audio_s: float = 0.0
    max_probability: float = 0.0


@dataclass(frozen=True, kw_only=True)
class SpeakerEmbedding(Embedding):
    """Who speaks, as a vector. speech_s: how much speech it was made from."""

    speech_s: float = 0.0


@dataclass(frozen=True)
class ModelInfo:
    """A model of the mesh. state: `ready`, `loading` or `unavailable`; reason says why it does not answer.

    `execution_provider_reason` says which preferred providers were passed over and why.
    """

    service: str
    name: str
    version: str
    state: str
    reason: str
    digest: str
    description: str
    license: str
    graphs: tuple[str, ...]
    default_for: tuple[str, ...]
    execution_provider: str
    ready_replicas: int
    replicas: int
    execution_provider_reason: str = ""

    @property
    def public_name(self) -> str:
        """As requests name it, e.g. `vision/efficientnet-lite0`."""
        return f"{self.service}/{self.name}"


@dataclass(frozen=True)
class ReplicaInfo:
    """A replica as the gateway sees it. state: `ready`, `starting`, `draining` or `unreachable`."""

    service: str
    endpoint: str
    state: str
    reason: str
    server_version: str
    models: Mapping[str, str] = field(default_factory=dict)  # model -> its state there


@dataclass(frozen=True)
class Limits:
    """The bounds of one rpc; None where a bound does not apply."""

    method: str
    max_message_bytes: int | None
    max_items: int | None
    max_item_bytes: int | None
    max_pixels: int | None
    max_audio_s: float | None
    max_characters: int | None
    max_tokens: int | None
    max_runs: int | None = None
