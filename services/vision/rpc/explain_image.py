"""ExplainImage: the model that answers ClassifyImage, run on the picture with cells of a grid covered.

Not here: which cells each run covers, what the scores say of them (`shared.inference.explanation`).
"""

from dataclasses import dataclass
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
from shared.inference.executor import run_in_executor
from shared.inference.explanation.explaining import count_parts, explain
from shared.inference.explanation.masks import Kept
from shared.inference.explanation.probe import Probe, Row
from shared.inference.model import Model
from shared.inference.repository.per_artifact import PerArtifact
from shared.inference.repository.repository import Repository
from shared.inference.timing import ItemStopwatch, Stopwatch
from shared.rpc.caller import Priority
from shared.rpc.deadline import current_deadline

# Of a long picture of which the model looks at the middle only, most cells would be wasted: then they are made smaller.
_MOST_CELLS = 1024


@dataclass(frozen=True)
class Subject:
    """One picture as it is explained."""

    tensor: Floats  # the model's input, as ClassifyImage makes it
    pixels: Pixels  # at the size to which the model shrinks it
    ground: NDArray[np.uint8]
    grid: Grid
    map: NDArray[np.intp]
    # Numbers of the cells in which the model looks at something: covering one changes its input.
    seen: NDArray[np.intp]
    width: int
    height: int

    def make(self, preparation: Preparation, kept: Kept) -> list[Row]:
        """The model's input for each mask [runs, seen cells]; for a thread."""
        rows: list[Row] = []
        for row in kept:
            every = np.ones(self.grid.count, np.bool_)
            every[self.seen] = row
            rows.append({"image": _prepare(preparation, self, every)})
        return rows


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
        with item.preprocessing():
            validation.check_content(content, field, self._bounds)
            subject = await run_in_executor(
                open_subject, content, field, self._bounds.max_pixels, classifier.preparation, runs
            )
        answer = await model.infer(
            {"image": subject.tensor}, outputs=("logits",), deadline=deadline, priority=Priority.BATCH
        )
        item.add(answer)
        scores = classification.softmax(answer.outputs["logits"][0])
        # Several classes may have one name: then the one that the model means.
        index = max(indices, key=lambda one: scores[one]) if indices else int(scores.argmax())
        score = float(scores[index])

        def pick(row: Floats) -> float:
            return float(classification.softmax(row)[index])

        probe = Probe(
            model,
            "logits",
            partial(subject.make, classifier.preparation),
            pick,
            item,
            deadline,
            what="explaining the images",
            later_runs=later_runs,
        )
        found = await explain(probe, len(subject.seen), runs, score)
        with item.postprocessing():
            attributions = np.zeros(subject.grid.count, np.float64)
            attributions[subject.seen] = found.attributions
            heat_map = await run_in_executor(
                render_heat_map,
                Image.fromarray(subject.pixels),
                subject.width,
                subject.height,
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


def open_subject(content: bytes, field: str, max_pixels: int, preparation: Preparation, runs: int) -> Subject:
    """Decode a picture, lay a grid over it and find out where the model looks; for a thread. Raises InvalidArgument."""
    picture = decode(content, field=field, max_pixels=max_pixels, fit=preparation.fit)
    tensor = preparation.prepare(picture.image, field)
    small = picture.image
    size = preparation.fit(picture.width, picture.height)
    if size[0] < small.width:
        small = small.resize(size, Image.Resampling.BICUBIC)
    pixels = np.asarray(small)
    height, width = pixels.shape[:2]
    wanted = count_parts(runs)
    grid = lay_grid(width, height, wanted)
    subject = _lay(preparation, tensor, pixels, grid, (picture.width, picture.height))
    if 0 < len(subject.seen) < 0.8 * grid.count:
        finer = lay_grid(
            width, height, min(round(wanted * grid.count / len(subject.seen)), _MOST_CELLS, 4 * wanted)
        )
        subject = _lay(preparation, tensor, pixels, finer, (picture.width, picture.height))
    return subject


def _lay(
    preparation: Preparation, tensor: Floats, pixels: Pixels, grid: Grid, size: tuple[int, int]
) -> Subject:
    """The picture under a grid, with the cells that the model sees."""
    height, width = pixels.shape[:2]
    everywhere = np.arange(grid.count)
    whole = Subject(
        tensor, pixels, cells.find_ground(pixels), grid, grid.map_pixels(height, width), everywhere, *size
    )
    plain = _prepare(preparation, whole, np.ones(grid.count, np.bool_))
    seen = [
        cell
        for cell in everywhere
        if not np.array_equal(_prepare(preparation, whole, everywhere != cell), plain)
    ]
    return Subject(
        tensor, pixels, whole.ground, grid, whole.map, np.array(seen, np.intp), whole.width, whole.height
    )


def _prepare(preparation: Preparation, subject: Subject, kept: NDArray[np.bool_]) -> Floats:
    covered = Image.fromarray(cells.cover(subject.pixels, subject.ground, subject.map, kept))
    try:
        return preparation.prepare(covered, "images")
    except InvalidArgument as error:
        # Nothing is left of it that the model could work on: it sees nothing.
        let_go(error)
        return np.zeros_like(subject.tensor)


def _refuse(status: status_pb2.Status) -> pb.ExplainImageResult:
    return pb.ExplainImageResult(status=status)
