"""Whether explanations are true of the models: taking away what speaks for a label must cost it more than taking away as
much at random, for every model that classifies texts or pictures, asked as it is served.

Of each held-out input, the fifth of its words (or cells) that came out on top is taken away, and five times a fifth at
random; what the label's score loses is compared, input by input. A seed draws other inputs.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import binomtest
from sensorium.nlp.v1 import nlp_service_pb2 as nlp
from sensorium.nlp.v1 import nlp_service_pb2_grpc
from sensorium.vision.v1 import vision_service_pb2 as vision
from sensorium.vision.v1 import vision_service_pb2_grpc

from services.nlp.pipeline.words import Stretch, leave_out
from services.nlp.training.data.documents import read_split
from services.nlp.training.data.mail import read_mails
from services.nlp.training.data.snippets import read_domain
from services.vision.pipeline import cells
from services.vision.pipeline.cells import Grid
from services.vision.training.data.mnist import read_json
from shared.inference.heldout import HeldOutError, heldout_folder, read_heldout
from shared.settings import state_dir
from shared.training.errors import DataError
from shared.training.evaluation.interval import bootstrap
from tests.benchmarks.replica import running_replica
from tests.benchmarks.report import Row
from tests.quality.place import Place
from tests.quality.rows import not_measured, rate
from tests.support.waiting import within

_WORDS = 60  # of a text: the rest is cut off, so that a measurement ends in minutes
_SHARE, _DRAWS = 0.2, 5
_RUNS = (32, 128)
_CROPS = 5  # of each photograph
_LIMIT_S = 120.0
_TOPICS = ("about sport", "about cars", "about computers", "about religion", "about medicine", "about space")

# Of each input what the score loses by the explanation and by chance (mean of the draws), and the number of its source.
Drops = list[tuple[float, float, int]]


@dataclass(frozen=True)
class Subject:
    """A model, its inputs, and what tells the share of the score that is lost without some of their parts."""

    name: str
    service: str
    inputs: Callable[[Place], list[Any]]
    measure: Callable[[Any, str, Any, int, np.random.Generator], Awaitable[tuple[float, float]]]
    count: int = 20  # inputs a seed
    per_source: int = 1  # inputs that come from one photograph, and are not independent


def measure(seeds: Sequence[int], place: Place) -> Iterator[Row]:
    """Per model, what the score loses by the explanation and by chance, and the difference, input by input."""
    for subject in SUBJECTS:
        for runs in _RUNS:
            try:
                inputs = subject.inputs(place)
                drops = [pair for seed in seeds for pair in _measure_seed(subject, inputs, runs, seed, place)]
            except (OSError, DataError) as error:
                yield not_measured(
                    f"explain/{subject.name}/gain-{runs}", "score", ">= 0", f"no inputs: {error}"
                )
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE):
                    raise
                why = error.details() or "it is not served"
                yield not_measured(f"explain/{subject.name}/gain-{runs}", "score", ">= 0", why)
            else:
                yield from _report(f"explain/{subject.name}", drops, runs, len(seeds))


def _measure_seed(subject: Subject, inputs: Sequence[Any], runs: int, seed: int, place: Place) -> Drops:
    kept = place.once(
        "explain",
        f"{subject.name}-{runs}-seed-{seed}",
        lambda _: {"drops": asyncio.run(measure_drops(subject, inputs, runs, seed))},
    )
    return [tuple(drop) for drop in kept["drops"]]


def _report(name: str, drops: Drops, runs: int, seeds: int) -> Iterator[Row]:
    found = np.array(drops)
    sources = found[:, 2]
    gain = found[:, 0] - found[:, 1]
    wins = int((gain > 0).sum())
    p_value = binomtest(wins, int((gain != 0).sum()) or 1).pvalue
    how = (
        f"{len(found)} inputs ({seeds} seeds), {runs} runs each, {_SHARE:.0%} of the parts taken away, {_DRAWS} draws at "
        f"random; more than at random for {wins}, sign test p {p_value:.1g}"
    )

    def row(what: str, values: NDArray[Any], **bar: float) -> Row:
        interval = bootstrap(lambda index: float(values[index].mean()), len(values), clusters=sources)
        return rate(f"{name}/{what}-{runs}", interval, "score", how, **bar)

    yield row("gain", gain, at_least=0.0)
    yield row("top", found[:, 0])
    yield row("random", found[:, 1])


async def measure_drops(
    subject: Subject, inputs: Sequence[Any], runs: int, seed: int, count: int | None = None
) -> Drops:
    """Ask a replica of the subject's service about some of the inputs, drawn by `seed`."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(inputs))[: count or subject.count]
    async with running_replica(f"services.{subject.service}", subject.service) as replica:
        stub: Any = (
            nlp_service_pb2_grpc.NlpServiceStub(replica.channel)
            if subject.service == "nlp"
            else vision_service_pb2_grpc.VisionServiceStub(replica.channel)
        )
        return [
            (
                *await subject.measure(stub, subject.name, inputs[index], runs, rng),
                int(index) // subject.per_source,
            )
            for index in chosen
        ]


def _draw(rng: np.random.Generator, attributions: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """The parts to take away: the top ones, then as many at random, several times."""
    count = max(round(_SHARE * len(attributions)), 1)
    return [
        np.argsort(-attributions, kind="stable")[:count],
        *(rng.permutation(len(attributions))[:count] for _ in range(_DRAWS)),
    ]


# Texts.


async def _measure_text(
    stub: Any, model: str, text: str, runs: int, rng: np.random.Generator
) -> tuple[float, float]:
    labels = _TOPICS if model == "minilm" else ()
    reply: nlp.ExplainTextResponse = await within(
        stub.ExplainText(
            nlp.ExplainTextRequest(model=model, texts=[text], candidate_labels=labels, max_runs=runs),
            timeout=_LIMIT_S,
        ),
        _LIMIT_S,
    )
    (result,) = reply.results
    stretches = [Stretch(one.begin, one.end) for one in result.attributions]
    sets = _draw(rng, np.array([one.attribution for one in result.attributions]))
    rests = [
        leave_out(text, stretches, [part not in taken for part in range(len(stretches))]) for taken in sets
    ]
    answers: nlp.ClassifyTextResponse = await within(
        stub.ClassifyText(
            nlp.ClassifyTextRequest(model=model, texts=rests, candidate_labels=labels), timeout=_LIMIT_S
        ),
        _LIMIT_S,
    )
    scores = [
        next((one.score for one in answer.labels if one.label == result.label), result.base_score)
        for answer in answers.results
    ]
    return result.score - scores[0], result.score - float(np.mean(scores[1:]))


def _read_texts(model: str) -> Callable[[Place], list[Any]]:
    """The model's held-out texts; where it was not trained here, published ones of the same kind."""

    def read(place: Place) -> list[Any]:
        try:
            kept = read_heldout(heldout_folder(state_dir(), "nlp", model))
        except HeldOutError:
            return _cut(_OTHERS[model](place.data))
        return _cut(item.text for item in kept.items if item.text)

    return read


def read_news(place: Place) -> list[Any]:
    """Messages of newsgroups, of the part that is for judging."""
    return _cut(_OTHERS["topics"](place.data))


_OTHERS: dict[str, Callable[[Path], Iterable[str]]] = {
    "sentiment": lambda data: (snippet.text for snippet in read_domain(data, "nyt")),
    "topics": lambda data: read_split(data, "newsgroups", "20newsgroups")[1].texts,
    "reuters": lambda data: read_split(data, "reuters", "reuters-r8")[1].texts,
    "spam": lambda data: read_mails(data).documents.texts,
}


def _cut(texts: Iterable[str]) -> list[Any]:
    short = (" ".join(text.split()[:_WORDS]) for text in texts)
    return [text for text in short if len(text.split()) >= 5]


# Pictures.


async def _measure_picture(
    stub: Any, model: str, picture: bytes, runs: int, rng: np.random.Generator
) -> tuple[float, float]:
    reply: vision.ExplainImageResponse = await within(
        stub.ExplainImage(
            vision.ExplainImageRequest(model=model, images=[vision.Image(content=picture)], max_runs=runs),
            timeout=_LIMIT_S,
        ),
        _LIMIT_S,
    )
    (result,) = reply.results
    attributions = np.array(result.attributions)
    # Where the model does not look nothing can be taken away.
    seen = np.flatnonzero(attributions)
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    ground = cells.find_ground(pixels)
    table = Grid(result.rows, result.columns).map_pixels(*pixels.shape[:2])
    covered = []
    for taken in _draw(rng, attributions[seen]):
        kept = np.ones(len(attributions), bool)
        kept[seen[taken]] = False
        out = io.BytesIO()
        Image.fromarray(cells.cover(pixels, ground, table, kept)).save(out, "PNG")
        covered.append(vision.Image(content=out.getvalue()))
    answers: vision.ClassifyImageResponse = await within(
        stub.ClassifyImage(
            vision.ClassifyImageRequest(model=model, images=covered, top_k=1000), timeout=_LIMIT_S
        ),
        _LIMIT_S,
    )
    # A picture of which nothing is left is not classified: the label has what it has of nothing.
    scores = [
        next((one.score for one in answer.classifications if one.index == result.index), result.base_score)
        for answer in answers.results
    ]
    return result.score - scores[0], result.score - float(np.mean(scores[1:]))


def read_digits(place: Place) -> list[Any]:
    """Held-out digits; where the model was not trained here, those of the data set."""
    try:
        kept = read_heldout(heldout_folder(state_dir(), "vision", "digits"))
    except HeldOutError:
        found = []
        for pixels in read_json(place.data / "mnist/package/src/digits").limit(1000).pixels:
            out = io.BytesIO()
            Image.fromarray(pixels).save(out, "PNG")
            found.append(out.getvalue())
        return list(found)
    return [item.content for item in kept.items if item.content]


def _read_photographs(place: Place) -> list[Any]:
    """Real photographs that packages bring along, five random crops of each."""
    import matplotlib as mpl
    import sklearn.datasets

    folder = Path(sklearn.datasets.__file__).parent / "images"
    paths = [
        *(state_dir() / "samples" / f"{name}.png" for name in ("cat", "portrait")),
        *(folder / name for name in ("china.jpg", "flower.jpg")),
        Path(mpl.get_data_path()) / "sample_data/grace_hopper.jpg",
    ]
    rng = np.random.default_rng(0)
    found: list[Any] = []
    for path in paths:
        photo = Image.open(path).convert("RGB")
        for _ in range(_CROPS):
            side = int(min(photo.size) * rng.uniform(0.7, 1.0))
            left, top = (int(rng.integers(0, length - side + 1)) for length in photo.size)
            out = io.BytesIO()
            photo.crop((left, top, left + side, top + side)).save(out, "PNG")
            found.append(out.getvalue())
    return found


SUBJECTS = (
    *(
        Subject(name, "nlp", _read_texts(name), _measure_text)
        for name in ("sentiment", "topics", "reuters", "spam")
    ),
    Subject("minilm", "nlp", read_news, _measure_text),
    Subject("digits", "vision", read_digits, _measure_picture),
    Subject("efficientnet-lite0", "vision", _read_photographs, _measure_picture, 6, _CROPS),
)
