"""NlpService: validate → read the texts → run the model → reply. Errors become statuses in shared/rpc.

A text that cannot be answered fails alone, in its result's status; every other error ends the call.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from google.rpc import status_pb2
from sensorium.nlp.v1 import nlp_service_pb2 as pb
from sensorium.nlp.v1 import nlp_service_pb2_grpc as pb_grpc
from sensorium.types.v1 import embedding_pb2

from services.nlp.embedder import PREPROCESSING, Embedder, LabelVectors, Vectors
from services.nlp.limits import Bounds
from services.nlp.pipeline.similarity import phrase, rank, score
from services.nlp.reading import Reading
from services.nlp.validation import check_count, check_labels
from shared.inference.model import Model
from shared.inference.repository.per_artifact import PerArtifact
from shared.inference.repository.repository import Repository
from shared.inference.timing import Stopwatch
from shared.rpc.deadline import current_deadline

# grpc.aio's ServicerContext or the native front's; no method looks at it.
Context = Any

T = TypeVar("T")


class NlpServicer(pb_grpc.NlpServiceServicer):
    """All rpcs of the language service over one repository of models."""

    def __init__(self, repository: Repository, bounds: Bounds) -> None:
        self._repository = repository
        self._bounds = bounds
        self._embedders = PerArtifact({PREPROCESSING: Embedder}, rpc="EmbedText", repository=repository)
        self._labels = LabelVectors(bounds.cached_labels)

    async def EmbedText(self, request: pb.EmbedTextRequest, context: Context) -> pb.EmbedTextResponse:
        """Turns texts into vectors."""
        check_count(request.texts, self._bounds)
        model = self._repository.model(request.model, "EmbedText")
        embedder = await self._embedders.get(model)
        watch = Stopwatch()

        def answer(reading: Reading, vector: Vectors) -> pb.EmbedTextResult:
            return pb.EmbedTextResult(
                embedding=embedding_pb2.Embedding(values=vector.tolist()),
                token_count=len(reading.tokens.ids),
                truncated=reading.tokens.truncated,
                language_support=_support(reading),
            )

        def refuse(status: status_pb2.Status) -> pb.EmbedTextResult:
            return pb.EmbedTextResult(status=status)

        results = await self._answer_each(embedder, model, request.texts, watch, answer, refuse)
        return pb.EmbedTextResponse(results=results, model=model.ref(), timing=watch.to_timing())

    async def ClassifyText(
        self, request: pb.ClassifyTextRequest, context: Context
    ) -> pb.ClassifyTextResponse:
        """Finds the candidate label that fits each text best."""
        check_count(request.texts, self._bounds)
        check_labels(request.candidate_labels)
        model = self._repository.model(request.model, "ClassifyText")
        embedder = await self._embedders.get(model)
        watch = Stopwatch()
        names = list(request.candidate_labels)
        phrases = [phrase(name) for name in names]
        labels = await self._labels.get(embedder, model, phrases, watch.item(), current_deadline())

        def answer(reading: Reading, vector: Vectors) -> pb.ClassifyTextResult:
            shares, similarities = score(vector, labels, embedder.constants.classify_scale)
            return pb.ClassifyTextResult(
                labels=[
                    pb.LabelScore(
                        label=names[index], score=float(shares[index]), similarity=float(similarities[index])
                    )
                    for index in rank(shares)
                ],
                truncated=reading.tokens.truncated,
                language_support=_support(reading),
            )

        def refuse(status: status_pb2.Status) -> pb.ClassifyTextResult:
            return pb.ClassifyTextResult(status=status)

        results = await self._answer_each(embedder, model, request.texts, watch, answer, refuse)
        return pb.ClassifyTextResponse(results=results, model=model.ref(), timing=watch.to_timing())

    async def _answer_each(
        self,
        embedder: Embedder,
        model: Model,
        texts: Sequence[str],
        watch: Stopwatch,
        answer: Callable[[Reading, Vectors], T],
        refuse: Callable[[status_pb2.Status], T],
    ) -> list[T]:
        """Give one result per text, in order: `answer` of its vector, or `refuse` where there is none."""
        deadline = current_deadline()
        whole = watch.item()
        with whole.preprocessing():
            readings = await embedder.read(texts, self._bounds, deadline)
        tokens = [reading.tokens for reading in readings if isinstance(reading, Reading)]
        vectors = iter(await embedder.embed(model, tokens, [watch.item() for _ in tokens], deadline))
        with whole.postprocessing():
            return [
                answer(reading, next(vectors))
                if isinstance(reading, Reading)
                else refuse(reading.to_status())
                for reading in readings
            ]


def _support(reading: Reading) -> "pb.LanguageSupport.ValueType":
    if reading.script_expected:
        return pb.LANGUAGE_SUPPORT_EXPECTED
    return pb.LANGUAGE_SUPPORT_UNSUPPORTED_SCRIPT
