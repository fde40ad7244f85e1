"""Models with labels of their own beside one that compares with the caller's: who answers what, and how."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from sensorium.nlp.v1 import nlp_service_pb2 as pb

from services.nlp.limits import Bounds, describe, read_max_tokens
from services.nlp.servicer import NlpServicer
from shared.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from shared.rpc.deadline import Deadline, set_deadline
from tests.services.nlp.trained import LANGUAGES, LETTERS, MOODS, WORDS, train
from tests.support.artifact_copy import change_manifest, copy_version
from tests.support.signing import UNSIGNED
from tests.support.waiting import within

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT_S = 60.0
CATALOG = {
    "mood": {"version": "1", "default_for": ["ClassifyText", "ExplainText"]},
    "minilm": {
        "version": "1",
        "default_for": ["EmbedText", "ClassifyText/candidate_labels", "ExplainText/candidate_labels"],
    },
    "language": {"version": "1", "default_for": ["DetectLanguage"]},
    "spam": {"version": "1"},
}


@dataclass(frozen=True)
class Service:
    servicer: NlpServicer
    repository: Repository

    async def classify(self, **fields: object) -> pb.ClassifyTextResponse:
        set_deadline(Deadline.after(LIMIT_S))
        return await within(self.servicer.ClassifyText(pb.ClassifyTextRequest(**fields), None), LIMIT_S)

    async def detect(self, **fields: object) -> pb.DetectLanguageResponse:
        set_deadline(Deadline.after(LIMIT_S))
        return await within(self.servicer.DetectLanguage(pb.DetectLanguageRequest(**fields), None), LIMIT_S)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "minilm").symlink_to(models_dir / "nlp" / "minilm", target_is_directory=True)
    train(folder, "mood", "ClassifyText", MOODS, WORDS)
    train(folder, "letters", "ClassifyText", MOODS, LETTERS)
    train(folder, "language", "DetectLanguage", LANGUAGES, LETTERS, threshold=0.9, scripts=["Latin"])
    repository = Repository(folder, "nlp", InferenceSettings(signature=UNSIGNED, watch_s=0), CATALOG)
    await within(repository.load_all(), LIMIT_S)
    yield Service(NlpServicer(repository, Bounds()), repository)
    await within(repository.close())


async def test_without_labels_the_trained_default_answers(service: Service) -> None:
    reply = await service.classify(texts=["a wonderful story", "a boring mess"])
    assert reply.model.name == "nlp/mood"
    assert [result.labels[0].label for result in reply.results] == ["positive", "negative"]
    for result in reply.results:
        assert sum(label.score for label in result.labels) == pytest.approx(1, abs=1e-6)
        assert not any(label.HasField("similarity") for label in result.labels)


async def test_with_labels_the_default_is_the_one_that_compares(service: Service) -> None:
    reply = await service.classify(texts=["The goalkeeper saved it."], candidate_labels=["sports", "food"])
    assert reply.model.name == "nlp/minilm"
    assert reply.results[0].labels[0].label == "sports"
    assert all(label.HasField("similarity") for label in reply.results[0].labels)


@pytest.mark.parametrize("name", ["letters", "nlp/letters"])
async def test_a_trained_model_by_name(service: Service, name: str) -> None:
    reply = await service.classify(texts=["a wonderful story"], model=name)
    assert (reply.model.name, reply.results[0].labels[0].label) == ("nlp/letters", "positive")


@pytest.mark.parametrize("name", ["minilm", "nlp/minilm"])
async def test_none_that_compares_without_labels(service: Service, name: str) -> None:
    with pytest.raises(InvalidArgument, match="name a model that has labels: letters, mood") as caught:
        await service.classify(texts=["x"], model=name)
    assert caught.value.field == "candidate_labels"
    assert "expected 2 to 64 labels, as nlp/minilm has none of its own" in str(caught.value)


async def test_none_that_is_trained_with_labels(service: Service) -> None:
    with pytest.raises(InvalidArgument, match="name a model that compares with labels: minilm") as caught:
        await service.classify(texts=["x"], model="mood", candidate_labels=["a", "b"])
    assert caught.value.field == "candidate_labels"


@pytest.mark.parametrize("labels", [[], ["a", "b"]])
async def test_a_model_for_something_else_is_refused_by_its_name(service: Service, labels: list[str]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await service.classify(texts=["x"], model="language", candidate_labels=labels)
    assert caught.value.field == "model"
    with pytest.raises(InvalidArgument, match="a model for DetectLanguage: language") as caught:
        await service.detect(texts=["x"], model="mood")
    assert caught.value.field == "model"
    with pytest.raises(NotFound, match="language, letters, minilm, mood"):
        await service.classify(texts=["x"], model="moods", candidate_labels=labels)
    with pytest.raises(Unavailable, match="models pull spam"):
        await service.classify(texts=["x"], model="spam", candidate_labels=labels)


async def test_a_bad_text_fails_alone(service: Service) -> None:
    reply = await service.classify(texts=["a gem", "", " \n", "?!", "awful"])
    assert [result.status.code for result in reply.results] == [0, 3, 3, 3, 0]
    assert [result.labels[0].label for result in reply.results if result.labels] == ["positive", "negative"]
    found = await service.detect(texts=["", "everyone is born free"])
    assert [result.status.code for result in found.results] == [3, 0]


async def test_an_answer_does_not_depend_on_its_neighbours(service: Service) -> None:
    texts = [text for some in MOODS.values() for text in some]
    alone = [(await service.classify(texts=[text])).results[0] for text in texts]
    together = (await service.classify(texts=texts)).results
    for one, other in zip(alone, together, strict=True):
        assert {label.label: label.score for label in one.labels} == pytest.approx(
            {label.label: label.score for label in other.labels}, abs=1e-6
        )


async def test_languages_best_first(service: Service) -> None:
    texts = ["we are all born free", "wir sind alle frei geboren", "nous naissons tous libres"]
    reply = await service.detect(texts=texts)
    assert reply.model.name == "nlp/language"
    assert [result.languages[0].code for result in reply.results] == ["en", "de", "fr"]
    for result in reply.results:
        scores = [language.score for language in result.languages]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1, abs=1e-6)
    (two,) = (await service.detect(texts=texts[:1], max_results=2)).results
    assert len(two.languages) == 2


async def test_what_is_not_to_be_relied_on_says_so(service: Service) -> None:
    sure, unsure, strange = (
        await service.detect(texts=["everyone has the right to life", "ee", "Доброе утро"])
    ).results
    assert (sure.reliable, sure.language_support) == (True, pb.LANGUAGE_SUPPORT_EXPECTED)
    assert not unsure.reliable
    assert (strange.reliable, strange.language_support) == (False, pb.LANGUAGE_SUPPORT_UNSUPPORTED_SCRIPT)


async def test_limits_of_every_rpc_are_told(service: Service) -> None:
    limits = {
        one.method.rpartition("/")[2]: one
        for one in describe(Bounds(), 2**20, read_max_tokens(service.repository))
    }
    assert list(limits) == ["EmbedText", "ClassifyText", "DetectLanguage", "ExplainText"]
    # The trained default counts n-grams and no tokens; the one that compares reads 256.
    assert [limits[rpc].max_tokens for rpc in limits] == [256, 256, 0, 256]
    assert (limits["ExplainText"].max_items, limits["ExplainText"].max_runs) == (8, 1024)


async def test_a_version_without_what_the_rpc_needs_does_not_take_over(tmp_path: Path) -> None:
    models = tmp_path / "models"
    first = train(models, "mood", "ClassifyText", MOODS, WORDS)
    repository = Repository(
        models, "nlp", InferenceSettings(signature=UNSIGNED, watch_s=0), {"mood": CATALOG["mood"]}
    )
    await within(repository.load_all(), LIMIT_S)
    servicer = NlpServicer(repository, Bounds())
    set_deadline(Deadline.after(LIMIT_S))
    request = pb.ClassifyTextRequest(texts=["a gem"])
    for version, change in (
        ("2", change_manifest(constants={"labels": ["negative", "positive", "none"]})),
        ("3", change_manifest(constants={"labels": None})),
        ("4", change_manifest(assets={"ngrams": None})),
        ("5", change_manifest(preprocessing="text/9")),
    ):
        copy_version(first.folder, models, version, change)
        with pytest.raises(FailedPrecondition, match=r"version 1 serves on: .*ClassifyText needs"):
            await within(repository.load_model("mood"), LIMIT_S)
        reply = await within(servicer.ClassifyText(request, None), LIMIT_S)
        assert reply.model.version == "1"
    # Another kind of model under the same name is no trouble: its preprocessing is known.
    train(models, "mood", "ClassifyText", MOODS, LETTERS, version="6")
    await within(repository.load_model("mood"), LIMIT_S)
    assert (await within(servicer.ClassifyText(request, None), LIMIT_S)).model.version == "6"
    await within(repository.close())
