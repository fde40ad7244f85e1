"""Explanations of a text's label: what they say, what they cost, and when they are refused."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from sensorium.nlp.v1 import nlp_service_pb2 as pb

from services.nlp.limits import Bounds, ExplainBounds
from services.nlp.reading import Reading
from services.nlp.rpc.explain_text import TimedReader
from services.nlp.servicer import NlpServicer
from shared.errors import DeadlineExceeded, InvalidArgument
from shared.inference.explanation.masks import Kept
from shared.inference.explanation.probe import Probe, Row, check_time
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from shared.inference.timing import ItemStopwatch
from shared.rpc.caller import Caller, Priority, set_caller
from shared.rpc.deadline import Deadline, set_deadline
from tests.services.nlp.trained import MOODS, WORDS, train
from tests.support.signing import UNSIGNED
from tests.support.waiting import within

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT_S = 60.0
CATALOG = {
    "mood": {"version": "1", "default_for": ["ClassifyText", "ExplainText"]},
    "minilm": {"version": "1", "default_for": ["EmbedText", "ClassifyText/candidate_labels"]},
}
REVIEW = "A dull script, but the acting is wonderful: the best of the year, I loved it!"
NEWS = [
    "The striker scored twice in the final minutes and won the cup while his parents watched from home.",
    "Simmer the sauce until it coats the spoon, then tell the children that dinner is ready.",
    "The central bank left its key rate unchanged although the governor had a cold that morning.",
]
TOPICS = ["sports", "cooking", "finance"]


@dataclass(frozen=True)
class Service:
    servicer: NlpServicer
    repository: Repository

    async def explain(self, timeout_s: float = LIMIT_S, **fields: object) -> pb.ExplainTextResponse:
        set_deadline(Deadline.after(timeout_s))
        return await within(self.servicer.ExplainText(pb.ExplainTextRequest(**fields), None), LIMIT_S)

    async def score(self, text: str, label: str, **fields: object) -> float:
        set_deadline(Deadline.after(LIMIT_S))
        request = pb.ClassifyTextRequest(texts=[text], **fields)
        reply = await within(self.servicer.ClassifyText(request, None), LIMIT_S)
        return next(one.score for one in reply.results[0].labels if one.label == label)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "minilm").symlink_to(models_dir / "nlp" / "minilm", target_is_directory=True)
    train(folder, "mood", "ClassifyText", MOODS, WORDS)
    repository = Repository(folder, "nlp", InferenceSettings(signature=UNSIGNED, watch_s=0), CATALOG)
    await within(repository.load_all(), LIMIT_S)
    yield Service(NlpServicer(repository, Bounds()), repository)
    await within(repository.close())


def by_word(result: pb.ExplainTextResult) -> dict[str, float]:
    return {one.text: one.attribution for one in result.attributions}


async def test_words_for_and_against(service: Service) -> None:
    reply = await service.explain(texts=[REVIEW])
    (result,) = reply.results
    assert (reply.model.name, result.label) == ("nlp/mood", "positive")
    found = by_word(result)
    assert max(found, key=lambda word: found[word]) in ("wonderful", "best", "loved")
    assert min(found, key=lambda word: found[word]) == "dull"
    assert found["dull"] < 0 < found["wonderful"]
    assert result.score == pytest.approx(await service.score(REVIEW, "positive"), abs=1e-6)
    assert result.base_score == pytest.approx(0.5, abs=1e-6)
    assert 16 < result.run_count <= 128
    assert reply.timing.compute.ToNanoseconds() > 0


async def test_places_are_code_points_of_the_text(service: Service) -> None:
    text = "\U0001f600\U0001f600 a  Wonderful — film"
    (result,) = (await service.explain(texts=[text])).results
    assert [text[one.begin : one.end] for one in result.attributions] == [
        one.text for one in result.attributions
    ]
    assert [one.text for one in result.attributions] == [
        "\U0001f600\U0001f600",
        "a",
        "Wonderful",
        "—",
        "film",
    ]


async def test_the_label_that_is_asked_for(service: Service) -> None:
    (best,) = (await service.explain(texts=[REVIEW])).results
    (other,) = (await service.explain(texts=[REVIEW], label="negative")).results
    assert other.label == "negative"
    assert other.score == pytest.approx(1 - best.score, abs=1e-6)
    # What speaks for one of two labels speaks against the other.
    assert by_word(other) == pytest.approx({word: -one for word, one in by_word(best).items()}, abs=1e-4)


async def test_candidate_labels(service: Service) -> None:
    reply = await service.explain(texts=NEWS, candidate_labels=TOPICS)
    assert reply.model.name == "nlp/minilm"
    assert [result.label for result in reply.results] == TOPICS
    found = by_word(reply.results[2])
    assert sorted(found, key=lambda word: -found[word])[:2] == ["bank", "rate"]


async def test_taking_away_what_speaks_for_it_hurts_more_than_anything(service: Service) -> None:
    rng = np.random.default_rng(7)
    drops, random_drops = [], []
    for text, topic in zip(NEWS, TOPICS, strict=True):
        (result,) = (await service.explain(texts=[text], candidate_labels=TOPICS)).results
        stretches = list(result.attributions)
        order = sorted(stretches, key=lambda one: -one.attribution)

        async def drop(taken: list[pb.TextAttribution], text: str = text, topic: str = topic) -> float:
            left = text
            for one in sorted(taken, key=lambda one: -one.begin):
                left = left[: one.begin] + left[one.end :]
            before = await service.score(text, topic, candidate_labels=TOPICS)
            return before - await service.score(left, topic, candidate_labels=TOPICS)

        count = max(2, len(stretches) // 5)
        drops.append(await drop(order[:count]))
        for _ in range(5):
            random_drops.append(
                await drop([stretches[index] for index in rng.permutation(len(stretches))[:count]])
            )
    assert min(drops) > 0
    assert np.mean(drops) > 3 * np.mean(random_drops)


async def test_the_same_request_gives_the_same_answer(service: Service) -> None:
    one, other = [(await service.explain(texts=[REVIEW])).results[0] for _ in range(2)]
    assert by_word(one) == pytest.approx(by_word(other), abs=1e-6)


@pytest.mark.parametrize("runs", [16, 64, 200])
async def test_never_more_runs_than_are_allowed(service: Service, runs: int) -> None:
    text = " ".join(f"{word}{number}" for number in range(100) for word in ("film", "good"))
    (result,) = (await service.explain(texts=[text], max_runs=runs)).results
    assert result.run_count == runs
    # More words than so many runs can tell apart are explained in stretches.
    assert len(result.attributions) == (runs - 2) // 2
    assert result.attributions[0].text.startswith("film0 good0")


async def test_few_words_need_few_runs(service: Service) -> None:
    one, two, none = (await service.explain(texts=["wonderful", "wonderful film", "..."])).results
    assert (one.run_count, len(one.attributions)) == (2, 1)
    assert one.attributions[0].attribution == pytest.approx(one.score - one.base_score, abs=1e-6)
    assert (two.run_count, len(two.attributions)) == (4, 2)
    assert none.status.code == 3


async def test_a_bad_text_fails_alone(service: Service) -> None:
    results = (await service.explain(texts=["", "a gem", " "])).results
    assert [result.status.code for result in results] == [3, 0, 3]
    assert results[1].attributions


async def test_what_the_model_does_not_read_has_no_attribution(service: Service) -> None:
    text = "The striker scored. " * 200
    (result,) = (await service.explain(texts=[text], candidate_labels=TOPICS, max_runs=32)).results
    assert result.truncated
    end = result.attributions[-1].end
    # 256 tokens are 63 such sentences of four.
    assert 60 * 20 < end < 66 * 20


async def test_other_scripts_are_cut_into_characters_and_flagged(service: Service) -> None:
    (result,) = (await service.explain(texts=["球员进球"], candidate_labels=TOPICS)).results
    assert [one.text for one in result.attributions] == list("球员进球")
    assert result.language_support == pb.LANGUAGE_SUPPORT_UNSUPPORTED_SCRIPT


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"texts": []}, "texts"),
        ({"texts": ["x"] * 9}, "texts"),
        ({"texts": ["x"], "max_runs": 15}, "max_runs"),
        ({"texts": ["x"], "max_runs": 1025}, "max_runs"),
        ({"texts": ["x"], "label": "neutral"}, "label"),
        ({"texts": ["x"], "candidate_labels": ["a", "b"], "label": "c"}, "label"),
        ({"texts": ["x"], "candidate_labels": ["a"]}, "candidate_labels"),
        ({"texts": ["x"], "model": "minilm"}, "candidate_labels"),
    ],
)
async def test_bad_requests(service: Service, fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await service.explain(**fields)
    assert caught.value.field == field


async def test_what_cannot_be_done_in_time_is_refused_at_once(service: Service) -> None:
    batcher = service.repository.model("minilm", "").graphs["model"].batcher
    # So that what a run takes is known.
    await service.explain(texts=[NEWS[0]], candidate_labels=TOPICS)
    before = batcher.statistics.to_message("", "").execution_count
    texts = [" ".join([text] * 12) for text in NEWS for _ in range(2)]
    with pytest.raises(DeadlineExceeded, match="explaining the texts takes about"):
        await service.explain(timeout_s=1.0, texts=texts, candidate_labels=TOPICS, max_runs=1024)
    assert batcher.statistics.to_message("", "").execution_count - before < 20
    assert batcher.load().queued_items == 0


async def test_a_caller_who_leaves_stops_the_runs(service: Service) -> None:
    batcher = service.repository.model("minilm", "").graphs["model"].batcher
    set_deadline(Deadline.after(LIMIT_S))
    request = pb.ExplainTextRequest(texts=[" ".join(NEWS)], candidate_labels=TOPICS, max_runs=128)
    task = asyncio.create_task(service.servicer.ExplainText(request, None))

    async def begun() -> None:
        while not batcher.load().queued_items:
            await asyncio.sleep(0)

    await within(begun(), LIMIT_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(task, LIMIT_S)
    assert batcher.load().queued_items == 0


async def test_a_caller_who_leaves_stops_the_making_of_variants(service: Service) -> None:
    begun, left, ended = threading.Event(), threading.Event(), threading.Event()
    row = {"ids": np.zeros((1, 1), np.int64), "counts": np.zeros((1, 1), np.float32)}
    made = 0

    def make(kept: Kept) -> Iterator[Row]:
        nonlocal made
        try:
            for _ in kept:
                made += 1
                if made == 2:
                    begun.set()
                    assert left.wait(LIMIT_S)
                yield row
        finally:
            ended.set()

    deadline = Deadline.after(LIMIT_S)
    set_deadline(deadline)
    probe = Probe(
        service.repository.model("mood", ""), "logits", make, float, ItemStopwatch(), deadline, what="it"
    )
    task = asyncio.create_task(probe.run(np.ones((32, 4), np.bool_)))
    assert await within(asyncio.to_thread(begun.wait, LIMIT_S), LIMIT_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(task, LIMIT_S)
    left.set()
    assert await within(asyncio.to_thread(ended.wait, LIMIT_S), LIMIT_S)
    assert made == 2


class SlowReader:
    """Every text takes it some milliseconds of a core."""

    def __init__(self) -> None:
        self.count = 0

    def read(self, text: str) -> Reading | None:
        self.count += 1
        until_s = time.thread_time() + 0.004
        while time.thread_time() < until_s:
            pass
        return self.read_nothing()

    def read_nothing(self) -> Reading:
        return Reading({}, 1, truncated=False, supported=True)

    def find_end(self, text: str) -> int:
        return len(text)


async def test_texts_whose_variants_could_not_be_read_in_time_are_not_read_on() -> None:
    slow = SlowReader()
    reader = TimedReader(slow, 65_536, Deadline.after(LIMIT_S))
    with pytest.raises(DeadlineExceeded, match="explaining the texts takes about"):
        reader.read("one")
    assert slow.count == 1
    reader = TimedReader(slow, 16, Deadline.after(LIMIT_S))
    assert reader.read("one") is not None
    assert 0.004 <= reader.read_s < LIMIT_S


async def test_making_the_inputs_counts_as_running_them_does(service: Service) -> None:
    model, deadline = service.repository.model("mood", ""), Deadline.after(LIMIT_S)
    check_time(model, [], 0, deadline, "it", making_s=LIMIT_S / 2)
    with pytest.raises(DeadlineExceeded, match="it takes about"):
        check_time(model, [], 0, deadline, "it", making_s=LIMIT_S * 2)


async def test_other_calls_go_first(service: Service) -> None:
    """While an explanation runs, an interactive call waits for the run at work and for no other."""
    text = " ".join(NEWS)
    waits = []

    async def ask() -> None:
        set_caller(Caller(priority=Priority.INTERACTIVE))
        set_deadline(Deadline.after(LIMIT_S))
        request = pb.ClassifyTextRequest(texts=["Who won the cup?"], candidate_labels=TOPICS)
        reply = await service.servicer.ClassifyText(request, None)
        waits.append(reply.timing.queue.ToNanoseconds() / 1e9)

    explaining = asyncio.create_task(
        service.explain(texts=[text], candidate_labels=TOPICS, max_runs=96), name="explaining"
    )
    batcher = service.repository.model("minilm", "").graphs["model"].batcher
    expected = []
    while not explaining.done() and len(waits) < 8:
        load = batcher.load()
        if load.queued_items > 8:
            expected.append(load.expected_wait_s)
            await within(ask(), LIMIT_S)
        else:
            await asyncio.sleep(0)
    explaining.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await within(explaining, LIMIT_S)
    assert len(waits) > 3
    # Behind all that waited it would have been the expected wait.
    assert np.median(waits) < 0.5 * np.median(expected)


async def test_bounds_are_settings(service: Service) -> None:
    servicer = NlpServicer(service.repository, Bounds(explain=ExplainBounds(max_items=1, max_runs=32)))
    set_deadline(Deadline.after(LIMIT_S))
    reply = await within(servicer.ExplainText(pb.ExplainTextRequest(texts=[REVIEW]), None), LIMIT_S)
    assert reply.results[0].run_count == 32
    with pytest.raises(InvalidArgument, match="expected 1 to 1 texts"):
        await within(servicer.ExplainText(pb.ExplainTextRequest(texts=[REVIEW] * 2), None), LIMIT_S)


async def test_the_cache_keeps_what_is_asked_for_and_no_variants(tmp_path: Path) -> None:
    train(tmp_path, "mood", "ClassifyText", MOODS, WORDS)
    settings = InferenceSettings(signature=UNSIGNED, watch_s=0, cache_bytes=10**6)
    repository = Repository(tmp_path, "nlp", settings, CATALOG)
    await within(repository.load_all(), LIMIT_S)
    service = Service(NlpServicer(repository, Bounds()), repository)
    cache = repository.model("mood", "").cache
    assert cache is not None
    await service.explain(texts=[REVIEW])
    assert len(cache) == 1
    assert await service.score(REVIEW, "positive") > 0.5
    assert len(cache) == 1
    await within(repository.close())
