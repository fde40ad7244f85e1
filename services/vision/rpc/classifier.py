"""What ClassifyImage needs of a model, whatever kind of picture it was made for: bytes in, the graph's input out, labels.

Lives here: which preprocessing is read out of which artifact. Not here: the preprocessings (`pipeline`), the call
(`classify_image`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from PIL import Image

from services.vision.decode import decode
from services.vision.pipeline import classification, digit
from services.vision.pipeline.classification import CropConstants
from services.vision.pipeline.digit import BlankError, DigitConstants
from services.vision.pipeline.tensor import Floats
from services.vision.rpc.artifact_check import require_outputs
from shared.errors import InvalidArgument
from shared.inference.artifact import Artifact, ArtifactError


@dataclass(frozen=True)
class Classifier:
    """A model's classes and the way of a picture to its input.

    `fit` tells, for an image's size, the size it is shrunk to, so that a JPEG may be decoded at a fraction; `prepare`
    makes the graph's input of an upright RGB image and raises InvalidArgument, which names `field`, where there is
    nothing to classify.
    """

    labels: tuple[str, ...]
    fit: Callable[[int, int], tuple[int, int]]
    prepare: Callable[[Image.Image, str], Floats]

    def read(self, content: bytes, field: str, max_pixels: int) -> Floats:
        """Encoded bytes to the graph's input, one row; for a thread. Raises InvalidArgument."""
        return self.prepare(decode(content, field=field, max_pixels=max_pixels, fit=self.fit).image, field)


def read_photo_classifier(artifact: Artifact) -> Classifier:
    """Out of an artifact made for photographs. Raises ArtifactError or ValueError where it does not say what it should."""
    require_outputs(artifact, "logits")
    constants = CropConstants.model_validate(artifact.constants)
    labels = classification.read_labels(artifact.asset("labels").read_text("utf-8"))
    _check_count(artifact, labels)
    return Classifier(
        labels,
        lambda width, height: classification.fit(width, height, constants),
        lambda image, _field: classification.prepare(image, constants),
    )


def read_digit_classifier(artifact: Artifact) -> Classifier:
    """Out of an artifact made for single digits. Raises ArtifactError or ValueError where it does not say what it should."""
    require_outputs(artifact, "logits")
    labels = DigitConstants.model_validate(artifact.constants).labels
    _check_count(artifact, labels)
    return Classifier(labels, digit.fit, _prepare_digit)


READERS: Mapping[str, Callable[[Artifact], Classifier]] = {
    classification.PREPROCESSING: read_photo_classifier,
    digit.PREPROCESSING: read_digit_classifier,
}


def _prepare_digit(image: Image.Image, field: str) -> Floats:
    try:
        return digit.prepare(image)
    except BlankError as blank:
        raise InvalidArgument(
            field, expected="a picture of one digit", got=str(blank), fix="send one with more contrast"
        ) from blank


def _check_count(artifact: Artifact, labels: tuple[str, ...]) -> None:
    """A class without a name would end a call long after the model was taken in."""
    classes = next(
        output.shape[-1]
        for graph in artifact.graphs.values()
        for output in graph.outputs
        if output.name == "logits"
    )
    if classes not in (-1, len(labels)):
        raise ArtifactError(f"labels: expected {classes}, one for each of the logits, got {len(labels)}")
