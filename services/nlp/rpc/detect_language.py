"""DetectLanguage: as ClassifyText with a model whose labels are languages, and a word on whether to rely on it."""

from google.rpc import status_pb2
from sensorium.nlp.v1 import nlp_service_pb2 as pb

from services.nlp.classifier import CLASSIFIERS, OUTPUT
from services.nlp.limits import DEFAULT_LANGUAGES, Bounds
from services.nlp.pipeline.similarity import rank
from services.nlp.reading import Reading
from services.nlp.rpc.answering import answer_each
from services.nlp.running import Row
from services.nlp.validation import check_count, check_max_languages
from shared.inference.repository.per_artifact import PerArtifact
from shared.inference.repository.repository import Repository
from shared.inference.timing import Stopwatch
from shared.rpc.deadline import current_deadline


class DetectLanguage:
    """The rpc."""

    def __init__(self, repository: Repository, bounds: Bounds) -> None:
        self._repository = repository
        self._bounds = bounds
        self._classifiers = PerArtifact(CLASSIFIERS, rpc="DetectLanguage", repository=repository)

    async def answer(self, request: pb.DetectLanguageRequest) -> pb.DetectLanguageResponse:
        """The reply; raises what ends the whole call."""
        check_count(request.texts, self._bounds.max_items)
        check_max_languages(request.max_results)
        most = request.max_results or DEFAULT_LANGUAGES
        model = self._repository.model(request.model, "DetectLanguage")
        classifier = await self._classifiers.get(model)
        watch = Stopwatch()

        def answer(reading: Reading, row: Row) -> pb.DetectLanguageResult:
            shares = classifier.score(row).shares
            best = rank(shares)[:most]
            return pb.DetectLanguageResult(
                languages=[
                    pb.DetectedLanguage(code=classifier.labels[index], score=float(shares[index]))
                    for index in best
                ],
                reliable=reading.supported and float(shares[best[0]]) > classifier.threshold,
                truncated=reading.truncated,
                language_support=reading.support,
            )

        def refuse(status: status_pb2.Status) -> pb.DetectLanguageResult:
            return pb.DetectLanguageResult(status=status)

        results = await answer_each(
            request.texts,
            classifier.reader,
            model,
            OUTPUT,
            self._bounds,
            watch,
            current_deadline(),
            answer=answer,
            refuse=refuse,
        )
        return pb.DetectLanguageResponse(results=results, model=model.ref(), timing=watch.to_timing())
