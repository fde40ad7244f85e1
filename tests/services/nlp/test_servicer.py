"""The rpcs over the real model, a real port and both fronts."""

import asyncio
import itertools

import grpc
import numpy as np
import pytest
from sensorium.nlp.v1 import nlp_service_pb2 as pb

from tests.services.nlp.conftest import BOUNDS, Nlp
from tests.support.serving import get_details, get_status
from tests.support.waiting import within

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT_S = 60.0

PARAPHRASES = [
    ("The cat sits on the mat.", "A kitten is resting on the rug."),
    ("How do I reset my password?", "I forgot my login secret and need a new one."),
    ("The stock market fell sharply today.", "Shares dropped a lot on the exchange this afternoon."),
    ("She is learning to play the piano.", "She takes piano lessons."),
]
LABELS = ["sports", "cooking", "finance", "travel"]
TOPICS = [
    ("The striker scored twice in the final minutes to win the cup.", "sports"),
    ("Simmer the sauce until it coats the back of a spoon.", "cooking"),
    ("The central bank left its key rate unchanged.", "finance"),
    ("Our hotel room looked out over the harbour.", "travel"),
    ("The goalkeeper's contract runs out next summer.", "sports"),
    ("Fold the egg whites gently into the batter.", "cooking"),
    ("Shares fell four percent after the profit warning.", "finance"),
    ("The night train to Vienna leaves at ten.", "travel"),
]


async def embed(nlp: Nlp, texts: list[str], model: str = "") -> pb.EmbedTextResponse:
    return await within(
        nlp.stub.EmbedText(pb.EmbedTextRequest(texts=texts, model=model), timeout=LIMIT_S), LIMIT_S
    )


async def classify(nlp: Nlp, texts: list[str], labels: list[str]) -> pb.ClassifyTextResponse:
    request = pb.ClassifyTextRequest(texts=texts, candidate_labels=labels)
    return await within(nlp.stub.ClassifyText(request, timeout=LIMIT_S), LIMIT_S)


async def fail(call: grpc.aio.UnaryUnaryCall, code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await within(call, LIMIT_S)
    assert caught.value.code() is code, caught.value.details()
    return caught.value


def vectors(reply: pb.EmbedTextResponse) -> np.ndarray:
    assert not any(result.status.code for result in reply.results)
    return np.array([result.embedding.values for result in reply.results])


async def test_paraphrases_are_nearer_than_strangers(nlp):
    found = vectors(await embed(nlp, [text for pair in PARAPHRASES for text in pair]))
    similarity = found @ found.T
    pairs = [similarity[2 * index, 2 * index + 1] for index in range(len(PARAPHRASES))]
    strangers = [
        similarity[one, other]
        for one, other in itertools.combinations(range(len(found)), 2)
        if one // 2 != other // 2
    ]
    assert min(pairs) > max(strangers) + 0.1


async def test_vectors_and_what_is_said_of_them(nlp):
    reply = await embed(nlp, ["Hello, world!"])
    (result,) = reply.results
    assert len(result.embedding.values) == 384
    assert np.linalg.norm(vectors(reply)[0]) == pytest.approx(1.0, abs=1e-5)
    assert (result.token_count, result.truncated) == (6, False)
    assert result.language_support == pb.LANGUAGE_SUPPORT_EXPECTED
    assert (reply.model.name, reply.model.version) == ("nlp/minilm", "1")
    assert reply.timing.compute.ToNanoseconds() > 0


async def test_an_answer_does_not_depend_on_its_neighbours(nlp):
    # Lengths from 3 to 256 tokens, so that rows of many paddings stand side by side.
    texts = [" ".join(["river"] * count) for count in (1, 2, 13, 14, 15, 30, 31, 62, 100, 200, 254, 300)]
    alone = np.concatenate([vectors(await embed(nlp, [text])) for text in texts])
    together = vectors(await embed(nlp, texts + texts[::-1] * 3))
    np.testing.assert_allclose(together[: len(texts)], alone, atol=1e-4)
    np.testing.assert_allclose(together[len(texts) : 2 * len(texts)], alone[::-1], atol=1e-4)


async def test_callers_at_the_same_time_get_their_own_answers(nlp):
    texts = [f"{word} number {index}" for index in range(8) for word in ("red", "green", "blue")]
    alone = vectors(await embed(nlp, texts))
    replies = await within(asyncio.gather(*(embed(nlp, [text]) for text in texts)), LIMIT_S)
    np.testing.assert_allclose(np.concatenate([vectors(reply) for reply in replies]), alone, atol=1e-4)


async def test_long_texts_are_cut_and_say_so(nlp):
    words = [f"word{index}" for index in range(2_000)]
    reply = await embed(nlp, [" ".join(words), " ".join(words[:1_000])])
    assert [(result.token_count, result.truncated) for result in reply.results] == [(256, True)] * 2
    first, second = vectors(reply)
    assert first @ second == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "support"),
    [
        ("Good morning", pb.LANGUAGE_SUPPORT_EXPECTED),
        ("\U0001f600\U0001f44d", pb.LANGUAGE_SUPPORT_EXPECTED),
        ("Доброе утро", pb.LANGUAGE_SUPPORT_UNSUPPORTED_SCRIPT),
        ("早上好", pb.LANGUAGE_SUPPORT_UNSUPPORTED_SCRIPT),
        ("صباح الخير", pb.LANGUAGE_SUPPORT_UNSUPPORTED_SCRIPT),
        ("ok\x00, e\u0301l\u200dan \u202eabc", pb.LANGUAGE_SUPPORT_EXPECTED),
    ],
)
async def test_any_unicode_is_answered_and_other_scripts_are_flagged(nlp, text, support):
    reply = await embed(nlp, [text])
    assert np.isfinite(vectors(reply)).all()
    assert reply.results[0].language_support == support
    assert (await classify(nlp, [text], ["a", "b"])).results[0].language_support == support


async def test_a_bad_text_fails_alone(nlp):
    texts = ["Hello", "", " \n", "x" * (BOUNDS.max_characters + 1), "world", "\x00"]
    alone = vectors(await embed(nlp, ["Hello", "world"]))
    for reply in (await embed(nlp, texts), await classify(nlp, texts, ["a", "b"])):
        assert [result.status.code for result in reply.results] == [0, 3, 3, 3, 0, 3]
        for index in (1, 2, 3, 5):
            violation = get_details(reply.results[index].status)["BadRequest"].field_violations[0]
            assert violation.field == f"texts[{index}]"
    reply = await embed(nlp, texts)
    np.testing.assert_allclose(
        [reply.results[0].embedding.values, reply.results[4].embedding.values], alone, atol=1e-4
    )


async def test_a_text_of_ten_megabytes_is_refused_at_once(nlp):
    reply = await embed(nlp, ["Hello", "word " * 2_000_000])
    assert [result.status.code for result in reply.results] == [0, 3]
    assert "10000000 characters" in reply.results[1].status.message
    # Not tokenized: that would take seconds.
    assert reply.timing.preprocess.ToNanoseconds() < 5e8


@pytest.mark.parametrize("count", [0, BOUNDS.max_items + 1])
async def test_wrong_number_of_texts_fails_the_call(nlp, count):
    for call in (
        nlp.stub.EmbedText(pb.EmbedTextRequest(texts=["x"] * count), timeout=LIMIT_S),
        nlp.stub.ClassifyText(
            pb.ClassifyTextRequest(texts=["x"] * count, candidate_labels=["a", "b"]), timeout=LIMIT_S
        ),
    ):
        error = await fail(call, grpc.StatusCode.INVALID_ARGUMENT)
        assert get_details(get_status(error))["BadRequest"].field_violations[0].field == "texts"


async def test_the_largest_call(nlp):
    reply = await embed(nlp, [f"{index} " + "word " * (index % 40) for index in range(BOUNDS.max_items)])
    assert vectors(reply).shape == (BOUNDS.max_items, 384)


async def test_classifies(nlp):
    reply = await classify(nlp, [text for text, _ in TOPICS], LABELS)
    assert [result.labels[0].label for result in reply.results] == [topic for _, topic in TOPICS]
    for result in reply.results:
        scores = [label.score for label in result.labels]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1.0, abs=1e-5)
        assert sorted(label.label for label in result.labels) == sorted(LABELS)
        similarities = [label.similarity for label in result.labels]
        assert similarities == sorted(similarities, reverse=True)
        assert all(-1.0 <= similarity <= 1.0 for similarity in similarities)
    assert reply.model.name == "nlp/minilm"


async def test_labels_known_or_new_give_the_same_answer(nlp):
    text = [TOPICS[0][0]]
    first = await classify(nlp, text, LABELS)
    again = await classify(nlp, text, LABELS)
    turned = await classify(nlp, text, [*LABELS[::-1], "astronomy"])
    similarity = {label.label: label.similarity for label in first.results[0].labels}
    for reply in (again, turned):
        for label in reply.results[0].labels:
            assert label.similarity == pytest.approx(similarity.get(label.label, label.similarity), abs=1e-4)


async def test_labels_come_back_as_they_were_written(nlp):
    labels = ["  Sports ", "cOOking", "\u202eabc", "早", "\x00x"]
    reply = await classify(nlp, [TOPICS[0][0]], labels)
    assert sorted(label.label for label in reply.results[0].labels) == sorted(labels)


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        (["a"], "candidate_labels"),
        (["a"] * 65, "candidate_labels"),
        (["a", "a"], "candidate_labels[1]"),
        (["a", " "], "candidate_labels[1]"),
    ],
)
async def test_bad_labels_fail_the_call(nlp, labels, field):
    request = pb.ClassifyTextRequest(texts=["x"], candidate_labels=labels)
    error = await fail(nlp.stub.ClassifyText(request, timeout=LIMIT_S), grpc.StatusCode.INVALID_ARGUMENT)
    assert get_details(get_status(error))["BadRequest"].field_violations[0].field == field


async def test_models_by_name(nlp):
    for name in ("minilm", "nlp/minilm"):
        assert (await embed(nlp, ["x"], name)).model.name == "nlp/minilm"
    call = nlp.stub.EmbedText(pb.EmbedTextRequest(texts=["x"], model="bert"), timeout=LIMIT_S)
    assert "minilm" in (await fail(call, grpc.StatusCode.NOT_FOUND)).details()


async def test_deadline_ends_a_long_list(nlp):
    texts = [f"{index} " + "word " * 250 for index in range(BOUNDS.max_items)]
    graph = nlp.repository.graph("minilm").batcher.statistics
    before = graph.to_message("", "").execution_count
    call = nlp.stub.EmbedText(pb.EmbedTextRequest(texts=texts), timeout=0.3)
    await fail(call, grpc.StatusCode.DEADLINE_EXCEEDED)
    await embed(nlp, ["short"])
    # Two texts a run: 64 runs, had it gone on.
    assert graph.to_message("", "").execution_count - before < 40
