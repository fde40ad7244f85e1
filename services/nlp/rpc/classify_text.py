"""ClassifyText: validate, choose the model, read, one row of it per text, a score per label."""

from google.rpc import status_pb2
from sensorium.nlp.v1 import nlp_service_pb2 as pb

from services.nlp.choice import Choice
from services.nlp.limits import Bounds
from services.nlp.pipeline.similarity import rank
from services.nlp.reading import Reading
from services.nlp.rpc.answering import answer_each
from services.nlp.running import Row
from services.nlp.validation import check_count
from shared.inference.timing import Stopwatch
from shared.rpc.deadline import current_deadline


class ClassifyText:
    """The rpc."""

    def __init__(self, choice: Choice, bounds: Bounds) -> None:
        self._choice = choice
        self._bounds = bounds

    async def answer(self, request: pb.ClassifyTextRequest) -> pb.ClassifyTextResponse:
        """The reply; raises what ends the whole call."""
        check_count(request.texts, self._bounds.max_items)
        watch, deadline = Stopwatch(), current_deadline()
        model, scorer = await self._choice.choose(
            request.model, request.candidate_labels, watch.item(), deadline
        )
        labels = scorer.labels

        def answer(reading: Reading, row: Row) -> pb.ClassifyTextResult:
            scores = scorer.score(row)
            found = scores.similarities
            return pb.ClassifyTextResult(
                labels=[
                    pb.LabelScore(
                        label=labels[index],
                        score=float(scores.shares[index]),
                        similarity=None if found is None else float(found[index]),
                    )
                    for index in rank(scores.shares)
                ],
                truncated=reading.truncated,
                language_support=reading.support,
            )

        def refuse(status: status_pb2.Status) -> pb.ClassifyTextResult:
            return pb.ClassifyTextResult(status=status)

        results = await answer_each(
            request.texts,
            scorer.reader,
            model,
            scorer.output,
            self._bounds,
            watch,
            deadline,
            answer=answer,
            refuse=refuse,
        )
        return pb.ClassifyTextResponse(results=results, model=model.ref(), timing=watch.to_timing())
