"""ExplainText: the model that answers ClassifyText, run on the text with words left out.

Not here: which words each run leaves out, what the scores say of them (`shared.inference.explanation`).
"""

import time
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sensorium.nlp.v1 import nlp_service_pb2 as pb

from services.nlp.choice import Choice
from services.nlp.limits import Bounds
from services.nlp.pipeline.words import Stretch, join_stretches, leave_out, split_words
from services.nlp.reading import Reading, TextReader, read_all
from services.nlp.running import run_readings
from services.nlp.score import Scorer
from services.nlp.validation import check_count, check_label, check_max_runs
from shared.errors import InvalidArgument
from shared.inference.executor import run_in_executor
from shared.inference.explanation.explaining import count_parts, explain
from shared.inference.explanation.masks import Kept
from shared.inference.explanation.probe import Probe, Row, check_time, refuse_late
from shared.inference.model import Model
from shared.inference.timing import ItemStopwatch, Stopwatch
from shared.rpc.caller import Priority
from shared.rpc.deadline import Deadline, current_deadline

# For messages.
_WORK = "explaining the texts"


class ExplainText:
    """The rpc."""

    def __init__(self, choice: Choice, bounds: Bounds) -> None:
        self._choice = choice
        self._bounds = bounds

    async def answer(self, request: pb.ExplainTextRequest) -> pb.ExplainTextResponse:
        """The reply; raises what ends the whole call."""
        check_count(request.texts, self._bounds.explain.max_items)
        runs = check_max_runs(request.max_runs, self._bounds.explain)
        watch, deadline = Stopwatch(), current_deadline()
        model, scorer = await self._choice.choose(
            request.model, request.candidate_labels, watch.item(), deadline
        )
        check_label(request.label, scorer.labels)
        whole = watch.item()
        with whole.preprocessing():
            reader = TimedReader(scorer.reader, runs, deadline)
            readings = await read_all(request.texts, reader.read, self._bounds, deadline)
        good = [reading for reading in readings if isinstance(reading, Reading)]
        rows = [reading.row for reading in good]
        check_time(model, rows, runs, deadline, _WORK, making_s=reader.read_s * runs)
        results = []
        # One after the other: side by side they would wait as long, and each would hold its variants meanwhile.
        left = len(good)
        for text, reading in zip(request.texts, readings, strict=True):
            if isinstance(reading, InvalidArgument):
                results.append(pb.ExplainTextResult(status=reading.to_status()))
                continue
            left -= 1
            later_runs = left * runs
            results.append(
                await self._explain(
                    model, scorer, text, reading, request.label, runs, later_runs, watch.item()
                )
            )
        return pb.ExplainTextResponse(results=results, model=model.ref(), timing=watch.to_timing())

    async def _explain(
        self,
        model: Model,
        scorer: Scorer,
        text: str,
        reading: Reading,
        label: str,
        runs: int,
        later_runs: int,
        item: ItemStopwatch,
    ) -> pb.ExplainTextResult:
        deadline = current_deadline()
        (row,) = await run_readings(
            model, [reading], scorer.output, [item], deadline, priority=Priority.BATCH
        )
        shares = scorer.score(row).shares
        index = scorer.labels.index(label) if label else int(shares.argmax())
        score = float(shares[index])

        def pick(row: NDArray[np.float32]) -> float:
            return float(scorer.score(row).shares[index])

        with item.preprocessing():
            stretches = await run_in_executor(cut, text, scorer.reader, runs)
        probe = Probe(
            model,
            scorer.output,
            partial(make_variants, text, stretches, scorer.reader),
            pick,
            item,
            deadline,
            what=_WORK,
            later_runs=later_runs,
        )
        found = await explain(probe, len(stretches), runs, score)
        return pb.ExplainTextResult(
            label=scorer.labels[index],
            score=score,
            base_score=found.base_score,
            attributions=[
                pb.TextAttribution(
                    text=text[stretch.begin : stretch.end],
                    begin=stretch.begin,
                    end=stretch.end,
                    attribution=float(attribution),
                )
                for stretch, attribution in zip(stretches, found.attributions, strict=True)
            ],
            run_count=probe.run_count + 1,
            truncated=reading.truncated,
            language_support=reading.support,
        )


class TimedReader:
    """Reads the texts of a call, and no further where reading their variants alone would take longer than there is time."""

    def __init__(self, reader: TextReader, runs: int, deadline: Deadline) -> None:
        self._reader = reader
        self._runs = runs
        self._deadline = deadline
        # Seconds of a core, not of the clock: what else the machine does says nothing of the texts.
        self.read_s = 0.0

    def read(self, text: str) -> Reading | None:
        """See `TextReader`; raises DeadlineExceeded."""
        begun_s = time.thread_time()
        reading = self._reader.read(text)
        if reading is not None:
            self.read_s += time.thread_time() - begun_s
            refuse_late(self._deadline, self.read_s * self._runs, _WORK)
        return reading


def cut(text: str, reader: TextReader, runs: int) -> list[Stretch]:
    """The stretches of what the model reads of a text, no more than so many runs can tell apart; for a thread."""
    words = split_words(text[: reader.find_end(text)])
    return join_stretches(words, count_parts(runs))


def make_variants(text: str, stretches: Sequence[Stretch], reader: TextReader, kept: Kept) -> Iterator[Row]:
    """The text without some of its stretches, as the model takes it, one row per mask [runs, stretches]; for a thread.

    Each is read when it is drawn.
    """
    # What lies behind the last stretch is more than the model reads, and must not move up.
    text = text[: stretches[-1].end] if stretches else text
    for row in kept.tolist():
        yield (reader.read(leave_out(text, stretches, row)) or reader.read_nothing()).row
