"""A trained text classifier with what it needs around its graph: its reader in front, probabilities out.

Not here: requests and replies (`rpc`), the functions on texts and tensors (`pipeline`).
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from services.nlp.reader import READERS
from services.nlp.reading import TextReader
from services.nlp.running import Row
from services.nlp.score import Scores
from shared.inference.artifact import Artifact, ArtifactError

OUTPUT = "logits"


class ClassifierConstants(BaseModel):
    """What the artifact says beside what its reader needs."""

    model_config = ConfigDict(frozen=True)

    # In the order of the logits.
    labels: tuple[str, ...] = Field(min_length=2)
    # The score from which on an answer is to be relied on; asked of models for languages.
    threshold: float = Field(default=0.5, ge=0.0, le=1.0)


class TextClassifier:
    """What one version of a model needs; holds no session. A `Scorer`."""

    output = OUTPUT

    def __init__(self, make_reader: Callable[[Artifact], TextReader], artifact: Artifact) -> None:
        """Read the constants and the reader's files; may block for some 50 ms.

        Raises:
            ValueError, ArtifactError, OSError: the artifact lacks something.
        """
        constants = ClassifierConstants.model_validate(artifact.constants)
        _check_logits(artifact, len(constants.labels))
        self.labels = constants.labels
        self.threshold = constants.threshold
        self.reader = make_reader(artifact)

    def score(self, row: Row) -> Scores:
        """Softmax of a row of logits [L]; its temperature is inside the graph."""
        shifted = row.astype(np.float64)
        shifted -= shifted.max()
        np.exp(shifted, out=shifted)
        return Scores((shifted / shifted.sum()).astype(np.float32))


# By preprocessing.
CLASSIFIERS: Mapping[str, Callable[[Artifact], TextClassifier]] = {
    name: partial(TextClassifier, make_reader) for name, make_reader in READERS.items()
}


def _check_logits(artifact: Artifact, labels: int) -> None:
    """A class without a name would end a call long after the model was taken in."""
    outputs = [output for graph in artifact.graphs.values() for output in graph.outputs]
    classes = [output.shape[-1] for output in outputs if output.name == OUTPUT]
    if not classes:
        raise ArtifactError(f"it has no output {OUTPUT}")
    if classes[0] not in (-1, labels):
        raise ArtifactError(f"labels: expected {classes[0]}, one for each of the logits, got {labels}")
