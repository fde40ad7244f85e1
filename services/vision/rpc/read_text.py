"""ReadText: decode and lay out on a thread, find lines, turn them upright, read them, each step through its own graph.

The lines of one page are read some at a time: their tensors would otherwise all be in memory at once, and a crowded page
would fill the queue that all callers share.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from google.rpc import status_pb2
from sensorium.vision.v1 import vision_service_pb2 as pb

from services.vision import validation
from services.vision.decode import decode
from services.vision.limits import ImageBounds
from services.vision.pipeline.tensor import Floats
from services.vision.pipeline.text import detection, page, recognition
from services.vision.pipeline.text.constants import PREPROCESSING, TextConstants
from services.vision.pipeline.text.crop import Line
from services.vision.pipeline.text.page import Page, ReadLine
from services.vision.pipeline.text.recognition import Reading
from services.vision.rpc.artifact_check import require_outputs
from services.vision.rpc.item import answer_each
from shared.inference.artifact import Artifact
from shared.inference.batching.batcher import Answer
from shared.inference.executor import run_in_executor
from shared.inference.model import Model
from shared.inference.repository.per_artifact import PerArtifact
from shared.inference.repository.repository import Repository
from shared.inference.timing import ItemStopwatch, Stopwatch
from shared.rpc.deadline import Deadline, current_deadline
from shared.side_by_side import run_side_by_side

# Lines of one page on their way at once: two batches of the reading graph, so that one forms while the other runs.
LINES_AT_ONCE = 16


@dataclass(frozen=True)
class Reader:
    """What the call needs of a model: its constants and the characters by class."""

    constants: TextConstants
    characters: tuple[str, ...]


def read_reader(artifact: Artifact) -> Reader:
    """Out of an artifact. Raises ArtifactError or ValueError where it does not say what it should."""
    require_outputs(artifact, "probability", "probabilities", "indices", "scores")
    characters = recognition.read_characters(artifact.asset("characters").read_bytes())
    return Reader(TextConstants.model_validate(artifact.constants), characters)


def prepare(content: bytes, field: str, max_pixels: int, constants: TextConstants) -> Page:
    """Encoded bytes to a page; for a thread."""
    picture = decode(
        content,
        field=field,
        max_pixels=max_pixels,
        fit=lambda width, height: detection.fit(width, height, constants.detect),
    )
    return page.lay_out(picture.image, picture.width, picture.height, constants)


class ReadText:
    """The rpc."""

    def __init__(self, repository: Repository, bounds: ImageBounds) -> None:
        self._repository = repository
        self._bounds = bounds
        self._made = PerArtifact({PREPROCESSING: read_reader}, rpc="ReadText", repository=repository)

    async def answer(self, request: pb.ReadTextRequest) -> pb.ReadTextResponse:
        """The reply; raises what ends the whole call."""
        options = validation.check_read(request, self._bounds)
        model = self._repository.model(request.model, "ReadText")
        reader = await self._made.get(model)
        min_score = reader.constants.text_threshold if options.min_score is None else options.min_score
        deadline = current_deadline()
        watch = Stopwatch()

        async def answer_one(content: bytes, field: str) -> pb.ReadTextResult:
            item = watch.item()
            with item.preprocessing():
                validation.check_content(content, field, self._bounds)
                laid_out = await run_in_executor(
                    prepare, content, field, self._bounds.max_pixels, reader.constants
                )
            call = PageCall(model, reader, deadline, item)
            return to_message(await call.read(laid_out, min_score))

        def refuse(status: status_pb2.Status) -> pb.ReadTextResult:
            return pb.ReadTextResult(status=status)

        results = await answer_each(request.images, answer_one, refuse)
        return pb.ReadTextResponse(results=results, model=model.ref(), timing=watch.to_timing())


@dataclass(frozen=True)
class PageCall:
    """One page on its way through the three graphs of a model."""

    model: Model
    reader: Reader
    deadline: Deadline
    item: ItemStopwatch

    async def read(self, laid_out: Page, min_score: float) -> list[ReadLine]:
        """The lines of a page, in reading order, none below `min_score`."""
        constants = self.reader.constants
        detected = await self.model.infer({"image": laid_out.tensor}, graph="detect", deadline=self.deadline)
        self.item.add(detected)
        with self.item.postprocessing():
            lines = await run_in_executor(
                page.cut_lines, laid_out, detected.outputs["probability"][0, 0], constants
            )
        upright = await self._turn_upright(lines)
        readings: list[Reading] = []
        for begin in range(0, len(upright), LINES_AT_ONCE):
            some = upright[begin : begin + LINES_AT_ONCE]
            with self.item.preprocessing():
                inputs = await run_in_executor(page.read_inputs, some, constants)
            for answer in await self._infer_all("recognize", inputs):
                outputs = answer.outputs
                readings.append(
                    recognition.collapse(outputs["indices"][0], outputs["scores"][0], self.reader.characters)
                )
        return page.keep_lines(laid_out, upright, readings, min_score)

    async def _turn_upright(self, lines: Sequence[Line]) -> list[Line]:
        constants = self.reader.constants
        answers: list[Floats] = []
        for begin in range(0, len(lines), LINES_AT_ONCE):
            some = lines[begin : begin + LINES_AT_ONCE]
            with self.item.preprocessing():
                inputs = await run_in_executor(page.orient_inputs, some, constants)
            for answer in await self._infer_all("orient", inputs):
                answers.append(np.asarray(answer.outputs["probabilities"][0], np.float32))
        with self.item.postprocessing():
            return await run_in_executor(page.turn_upright, lines, answers, constants)

    async def _infer_all(self, graph: str, inputs: Sequence[Floats]) -> list[Answer]:
        """One answer per line. Lines wait at the same time, so the first one's wait counts as the page's."""
        started_s = time.perf_counter()
        answers = await run_side_by_side(
            self.model.infer({"image": one}, graph=graph, deadline=self.deadline) for one in inputs
        )
        waited_s = min(answer.queue_s for answer in answers)
        self.item.queue_s += waited_s
        self.item.compute_s += time.perf_counter() - started_s - waited_s
        return answers


def to_message(lines: Sequence[ReadLine]) -> pb.ReadTextResult:
    """What was read, as the reply shows it."""
    return pb.ReadTextResult(
        text="\n".join(line.text for line in lines),
        lines=[
            pb.TextLine(
                text=line.text, score=line.score, corners=[pb.Point(x=x, y=y) for x, y in line.corners]
            )
            for line in lines
        ],
    )
