"""What ClassifyImage needs of a model, whatever kind of picture it was made for: the way to its input, and its labels.

Lives here: what is read out of an artifact, by the preprocessing it was made for. Not here: the call (`classify_image`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.vision.pipeline import classification, digit
from services.vision.pipeline.digit import DigitConstants
from services.vision.rpc.artifact_check import require_outputs
from services.vision.rpc.preparation import DIGIT_PREPARATION, Preparation, read_photo_preparation
from shared.inference.artifact import Artifact, ArtifactError


@dataclass(frozen=True)
class Classifier:
    """A model's input, and its classes in the order of the logits."""

    preparation: Preparation
    labels: tuple[str, ...]


def read_photo_classifier(artifact: Artifact) -> Classifier:
    """Of one made for photographs. Raises ArtifactError or ValueError where the artifact does not say what it should."""
    require_outputs(artifact, "logits")
    labels = classification.read_labels(artifact.asset("labels").read_text("utf-8"))
    _check_count(artifact, labels)
    return Classifier(read_photo_preparation(artifact), labels)


def read_digit_classifier(artifact: Artifact) -> Classifier:
    """Of one made for single digits. Raises ArtifactError or ValueError where the artifact does not say what it should."""
    require_outputs(artifact, "logits")
    labels = DigitConstants.model_validate(artifact.constants).labels
    _check_count(artifact, labels)
    return Classifier(DIGIT_PREPARATION, labels)


CLASSIFIERS: Mapping[str, Callable[[Artifact], Classifier]] = {
    classification.PREPROCESSING: read_photo_classifier,
    digit.PREPROCESSING: read_digit_classifier,
}


def _check_count(artifact: Artifact, labels: tuple[str, ...]) -> None:
    """A class without a name would end a call long after the model was taken in."""
    outputs = [output for graph in artifact.graphs.values() for output in graph.outputs]
    classes = next(output.shape[-1] for output in outputs if output.name == "logits")
    if classes not in (-1, len(labels)):
        raise ArtifactError(f"labels: expected {classes}, one for each of the logits, got {len(labels)}")
