"""EmbedText: validate, read, one row of the model per text."""

from google.rpc import status_pb2
from sensorium.nlp.v1 import nlp_service_pb2 as pb
from sensorium.types.v1 import embedding_pb2

from services.nlp.embedder import OUTPUT, Embedder
from services.nlp.limits import Bounds
from services.nlp.reading import Reading
from services.nlp.rpc.answering import answer_each
from services.nlp.running import Row
from services.nlp.validation import check_count
from shared.inference.repository.per_artifact import PerArtifact
from shared.inference.repository.repository import Repository
from shared.inference.timing import Stopwatch
from shared.rpc.deadline import current_deadline


class EmbedText:
    """The rpc."""

    def __init__(self, repository: Repository, embedders: PerArtifact[Embedder], bounds: Bounds) -> None:
        self._repository = repository
        self._embedders = embedders
        self._bounds = bounds

    async def answer(self, request: pb.EmbedTextRequest) -> pb.EmbedTextResponse:
        """The reply; raises what ends the whole call."""
        check_count(request.texts, self._bounds.max_items)
        model = self._repository.model(request.model, "EmbedText")
        embedder = await self._embedders.get(model)
        watch = Stopwatch()

        def answer(reading: Reading, vector: Row) -> pb.EmbedTextResult:
            return pb.EmbedTextResult(
                embedding=embedding_pb2.Embedding(values=vector.tolist()),
                token_count=reading.length,
                truncated=reading.truncated,
                language_support=reading.support,
            )

        def refuse(status: status_pb2.Status) -> pb.EmbedTextResult:
            return pb.EmbedTextResult(status=status)

        results = await answer_each(
            request.texts,
            embedder.reader,
            model,
            OUTPUT,
            self._bounds,
            watch,
            current_deadline(),
            answer=answer,
            refuse=refuse,
        )
        return pb.EmbedTextResponse(results=results, model=model.ref(), timing=watch.to_timing())
