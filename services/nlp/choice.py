"""Which model answers a request of ClassifyText, and what an explanation explains: labels of the caller's own ask for a
model that compares, none for one that was trained on labels.

The service has a default for each; a catalogue entry says which it is in `default_for`: `ClassifyText`, or
`ClassifyText/candidate_labels` for the one that is the default of requests with candidate labels.
"""

from collections.abc import Sequence

from services.nlp.classifier import CLASSIFIERS
from services.nlp.embedder import Comparison, Embedder, LabelVectors
from services.nlp.limits import MAX_LABELS, MIN_LABELS
from services.nlp.pipeline.similarity import phrase
from services.nlp.score import Scorer
from services.nlp.validation import check_labels
from shared.errors import InvalidArgument
from shared.inference.model import Model
from shared.inference.repository.per_artifact import PerArtifact
from shared.inference.repository.repository import Repository
from shared.inference.timing import ItemStopwatch
from shared.rpc.deadline import Deadline

TRAINED = "ClassifyText"
COMPARING = "ClassifyText/candidate_labels"
# Every model that embeds can compare.
_MADE_FOR = {TRAINED: "ClassifyText", COMPARING: "EmbedText"}


class Choice:
    """The models that classify, with and without labels of the caller's."""

    def __init__(
        self, repository: Repository, embedders: PerArtifact[Embedder], *, cached_labels: int
    ) -> None:
        self._repository = repository
        self._embedders = embedders
        self._classifiers = PerArtifact(CLASSIFIERS, rpc=TRAINED, repository=repository)
        self._vectors = LabelVectors(cached_labels)

    async def choose(
        self, name: str, candidate_labels: Sequence[str], watch: ItemStopwatch, deadline: Deadline
    ) -> tuple[Model, Scorer]:
        """The model, and what it answers with; a model that compares may be run for labels that it has not seen.

        Raises:
            InvalidArgument, InvalidArguments: the labels are not as they should be, or do not go with the model.
            NotFound, Unavailable: as `Repository.model`.
        """
        if not candidate_labels:
            model = self._find(name, TRAINED, candidate_labels)
            return model, await self._classifiers.get(model)
        check_labels(candidate_labels)
        model = self._find(name, COMPARING, candidate_labels)
        embedder = await self._embedders.get(model)
        phrases = [phrase(label) for label in candidate_labels]
        vectors = await self._vectors.get(embedder, model, phrases, watch, deadline)
        scale = embedder.constants.classify_scale
        return model, Comparison(tuple(candidate_labels), embedder.reader, vectors, scale)

    def _find(self, name: str, wanted: str, labels: Sequence[str]) -> Model:
        """The model that fits, or what is wrong with the labels where it is one of the other kind."""
        if not name:
            return self._repository.model("", wanted)
        try:
            return self._repository.model(name, _MADE_FOR[wanted])
        except InvalidArgument:
            model = self._repository.model(name, "")
            other = COMPARING if wanted == TRAINED else TRAINED
            if model.artifact.name not in self._repository.list_fitting(_MADE_FOR[other]):
                raise
        names = ", ".join(self._repository.list_fitting(_MADE_FOR[wanted])) or "none is ready"
        if labels:
            raise InvalidArgument(
                "candidate_labels",
                expected=f"none, as {model.name} has labels of its own",
                got=f"{len(labels)} labels",
                fix=f"leave them out, or name a model that compares with labels: {names}",
            )
        raise InvalidArgument(
            "candidate_labels",
            expected=f"{MIN_LABELS} to {MAX_LABELS} labels, as {model.name} has none of its own",
            got="none",
            fix=f"send some, or name a model that has labels: {names}",
        )
