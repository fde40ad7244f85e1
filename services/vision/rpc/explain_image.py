"""ExplainImage: the model that answers ClassifyImage, run on the picture with cells of a grid covered.

Not here: which cells each run covers, what the scores say of them (`shared.inference.explanation`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from google.rpc import status_pb2
from numpy.typing import NDArray
from PIL import Image
from sensorium.vision.v1 import vision_service_pb2 as pb

from services.vision import validation
from services.vision.decode import decode
from services.vision.limits import ExplainBounds
from services.vision.pipeline import cells, classification
from services.vision.pipeline.cells import Grid, Pixels, lay_grid
from services.vision.pipeline.heat_map import render_heat_map
from services.vision.pipeline.tensor import Floats
from services.vision.rpc.classifier import CLASSIFIERS, Classifier
from services.vision.rpc.preparation import Preparation
from shared.errors import InvalidArgument, let_go
from shared.inference.executor import Check, run_in_executor, run_while_wanted
from shared.inference.explanation.explaining import DEFAULT_RUNS, count_parts, explain
from shared.inference.explanation.masks import Kept
from shared.inference.explanation.probe import Probe, Row, check_time
from shared.inference.model import Model
from shared.inference.repository.per_artifact import PerArtifact
from shared.inference.repository.repository import Repository
from shared.inference.timing import ItemStopwatch, Stopwatch
from shared.rpc.caller import Priority
from shared.rpc.deadline import current_deadline

# For messages.
_WORK = "explaining the images"
# The share of cells in which the model looks at something, below which they are made smaller; and how many times as many.
_MUCH, _MOST = 0.8, 4


@dataclass(frozen=True)
class Seen:
    """One picture as the model sees it."""

    tensor: Floats  # the model's input
    pixels: Pixels  # at the size to which the model shrinks it
    width: int  # of the picture itself
    height: int


@dataclass(frozen=True)
class Subject:
    """One picture as it is explained."""

    pixels: Pixels  # at the size to which the model shrinks it
    ground: NDArray[np.uint8]
    grid: Grid
    map: NDArray[np.intp]
    seen: NDArray[np.intp]  # numbers of the cells in which the model looks at something

    def make(self, preparation: Preparation, kept: Kept) -> Iterator[Row]:
        """The model's input for each mask [runs, seen cells], made when it is drawn; for a thread."""
        for row in kept:
            every = np.ones(self.grid.count, np.bool_)
            every[self.seen] = row
            yield {"image": self.prepare(preparation, every)}

    def prepare(self, preparation: Preparation, kept: NDArray[np.bool_]) -> Floats:
        """The model's input with the cells [cells] that are kept; zeros where nothing is left to work on."""
        covered = Image.fromarray(cells.cover(self.pixels, self.ground, self.map, kept))
        try:
            return preparation.prepare(covered, "images")
        except InvalidArgument as error:
            let_go(error)
            # Of the size that any picture gets.
            return np.zeros_like(preparation.prepare(Image.fromarray(self.pixels), "images"))


class ExplainImage:
    """The rpc."""

    def __init__(self, repository: Repository, bounds: ExplainBounds) -> None:
        self._repository = repository
        self._bounds = bounds
        self._made = PerArtifact(CLASSIFIERS, rpc="ClassifyImage", repository=repository)

    async def answer(self, request: pb.ExplainImageRequest) -> pb.ExplainImageResponse:
        """The reply; raises what ends the whole call."""
        runs = validation.check_explain(request, self._bounds)
        # An explanation is of what ClassifyImage answers, so the same models give it.
        model = self._repository.model(request.model, "ClassifyImage")
        classifier = await self._made.get(model)
        indices = validation.check_label(request.label, classifier.labels)
        watch = Stopwatch()
        results = []
        # One after the other: side by side they would wait as long, and each would hold its variants meanwhile.
        for number, image in enumerate(request.images):
            later_runs = (len(request.images) - number - 1) * runs
            try:
                results.append(
                    await self._explain(
                        model, classifier, image.content, number, indices, runs, later_runs, watch.item()
                    )
                )
            except InvalidArgument as error:
                let_go(error)
                results.append(_refuse(error.to_status()))
        return pb.ExplainImageResponse(results=results, model=model.ref(), timing=watch.to_timing())

    async def _explain(
        self,
        model: Model,
        classifier: Classifier,
        content: bytes,
        number: int,
        indices: list[int],
        runs: int,
        later_runs: int,
        item: ItemStopwatch,
    ) -> pb.ExplainImageResult:
        deadline = current_deadline()
        field = f"images[{number}].content"
        preparation = classifier.preparation
        with item.preprocessing():
            validation.check_content(content, field, self._bounds)
            seen = await run_in_executor(look, content, field, preparation, self._bounds.max_pixels)
            whole: Row = {"image": seen.tensor}
        check_time(model, [whole], runs + later_runs, deadline, _WORK)
        answer = await model.infer(whole, outputs=("logits",), deadline=deadline, priority=Priority.BATCH)
        item.add(answer)
        scores = classification.softmax(answer.outputs["logits"][0])
        # Several classes may have one name: then the one that the model means.
        index = max(indices, key=lambda one: scores[one]) if indices else int(scores.argmax())
        score = float(scores[index])

        def pick(row: Floats) -> float:
            return float(classification.softmax(row)[index])

        with item.preprocessing():
            subject = await run_while_wanted(divide, seen.pixels, preparation, count_cells(runs))
        probe = Probe(
            model,
            "logits",
            partial(subject.make, preparation),
            pick,
            item,
            deadline,
            what=_WORK,
            later_runs=later_runs,
        )
        found = await explain(probe, len(subject.seen), runs, score)
        with item.postprocessing():
            attributions = np.zeros(subject.grid.count, np.float64)
            attributions[subject.seen] = found.attributions
            heat_map = await run_in_executor(
                render_heat_map,
                Image.fromarray(subject.pixels),
                seen.width,
                seen.height,
                attributions.reshape(subject.grid.rows, subject.grid.columns),
            )
        return pb.ExplainImageResult(
            label=classifier.labels[index],
            index=index,
            score=score,
            base_score=found.base_score,
            heat_map=heat_map,
            rows=subject.grid.rows,
            columns=subject.grid.columns,
            attributions=attributions.tolist(),
            run_count=probe.run_count + 1,
        )


def count_cells(runs: int) -> int:
    """About so many cells for so many runs: beyond the default number, twice as many for four times as many runs.

    Of 12 crops of photographs, 512 runs each: with 126 cells the map of the mirrored crop was alike (correlation .40) and
    the attributions' sum .11 off what the score lost without any cell; with 255 cells .23 and .28. Taking away the top
    fifth cost the score as much (.18, .19), as with 128 runs and 63 cells (.17).
    """
    parts = count_parts(min(runs, DEFAULT_RUNS))
    return round(parts * math.sqrt(max(runs / DEFAULT_RUNS, 1.0)))


def look(content: bytes, field: str, preparation: Preparation, max_pixels: int) -> Seen:
    """Decode a picture for a model; for a thread. Nothing of its own size outlives this: a few kilobytes may say hundreds of
    megabytes of pixels, and an explanation takes minutes.

    Raises:
        InvalidArgument: no image, a damaged one, or one of more than `max_pixels`.
    """
    picture = decode(content, field=field, max_pixels=max_pixels, fit=preparation.fit)
    small = picture.image
    size = preparation.fit(picture.width, picture.height)
    if size[0] < small.width:
        small = small.resize(size, Image.Resampling.BICUBIC)
    return Seen(preparation.prepare(picture.image, field), np.asarray(small), picture.width, picture.height)


def divide(check: Check, pixels: Pixels, preparation: Preparation, parts: int) -> Subject:
    """Lay a grid over a picture, of about so many cells where the model looks; for a thread.

    Every cell may have to be covered to see whether the model looks there: `check` is called before each.
    """
    height, width = pixels.shape[:2]
    subject = _lay(check, preparation, pixels, lay_grid(width, height, parts))
    if 0 < len(subject.seen) < _MUCH * subject.grid.count:
        # Of a long picture of which the model looks at the middle only, most cells would be wasted.
        share = len(subject.seen) / subject.grid.count
        finer = lay_grid(width, height, min(round(parts / share), _MOST * parts))
        subject = _lay(check, preparation, pixels, finer)
    return subject


def _lay(check: Check, preparation: Preparation, pixels: Pixels, grid: Grid) -> Subject:
    """The picture under a grid, with the cells in which the model sees something: covering one changes its input."""
    height, width = pixels.shape[:2]
    everywhere = np.arange(grid.count)
    whole = Subject(pixels, cells.find_ground(pixels), grid, grid.map_pixels(height, width), everywhere)
    plain = whole.prepare(preparation, np.ones(grid.count, np.bool_))

    def looks(covered: NDArray[np.intp] | np.intp) -> bool:
        check()
        return not np.array_equal(whole.prepare(preparation, ~np.isin(everywhere, covered)), plain)

    table = everywhere.reshape(grid.rows, grid.columns)
    rows = [row for row in range(grid.rows) if looks(table[row])]
    columns = [column for column in range(grid.columns) if looks(table[:, column])]
    # Most cells beyond what the model crops are told by whole rows and columns, those of plain ground one by one.
    seen = [cell for cell in table[np.ix_(rows, columns)].ravel() if looks(cell)]
    return replace(whole, seen=np.array(seen, np.intp))


def _refuse(status: status_pb2.Status) -> pb.ExplainImageResult:
    return pb.ExplainImageResult(status=status)
