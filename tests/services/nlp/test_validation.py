"""What is refused of a request before anything is tokenized."""

import pytest

from services.nlp.limits import Bounds, ExplainBounds, describe
from services.nlp.validation import (
    check_count,
    check_label,
    check_labels,
    check_max_languages,
    check_max_runs,
    check_text,
)
from shared.errors import InvalidArgument, InvalidArguments

BOUNDS = Bounds(max_items=3, max_characters=10)


@pytest.mark.parametrize("count", [1, 3])
def test_number_of_texts(count):
    check_count(["x"] * count, BOUNDS.max_items)


@pytest.mark.parametrize("count", [0, 4])
def test_wrong_number_of_texts(count):
    with pytest.raises(InvalidArgument, match=f"expected 1 to 3 texts, got {count}") as caught:
        check_count(["x"] * count, BOUNDS.max_items)
    assert caught.value.field == "texts"


@pytest.mark.parametrize("text", ["x", "1234567890", "\U0001f600" * 10, "\x00"])
def test_text(text):
    check_text(text, 0, BOUNDS)


@pytest.mark.parametrize("text", ["", "12345678901", "\U0001f600" * 11])
def test_wrong_length(text):
    with pytest.raises(InvalidArgument, match="expected 1 to 10 characters") as caught:
        check_text(text, 7, BOUNDS)
    assert caught.value.field == "texts[7]"
    assert "12345678901" not in str(caught.value)


@pytest.mark.parametrize("labels", [["a", "b"], ["a", "A"], [str(number) for number in range(64)]])
def test_labels(labels):
    check_labels(labels)


@pytest.mark.parametrize("labels", [[], ["a"], [str(number) for number in range(65)]])
def test_wrong_number_of_labels(labels):
    with pytest.raises(InvalidArgument, match=f"expected 2 to 64 labels, got {len(labels)}"):
        check_labels(labels)


@pytest.mark.parametrize(
    ("labels", "wrong"),
    [
        (["a", "a"], [1]),
        (["a", "b", "a", "b"], [2, 3]),
        (["a", ""], [1]),
        (["a", " \t\n"], [1]),
        (["a", "x" * 257], [1]),
        (["", "", "x" * 300], [0, 1, 2]),
    ],
)
def test_wrong_labels_are_all_named(labels, wrong):
    with pytest.raises((InvalidArgument, InvalidArguments)) as caught:
        check_labels(labels)
    error = caught.value
    found = (
        [item.field for item in error.violations] if isinstance(error, InvalidArguments) else [error.field]
    )
    assert found == [f"candidate_labels[{index}]" for index in wrong]


def test_limits_are_told():
    embed, classify, language, explain = describe(BOUNDS, 5_000, {"EmbedText": 256})
    assert embed.method == "sensorium.nlp.v1.NlpService/EmbedText"
    assert (embed.max_items, embed.max_characters, embed.max_tokens, embed.max_message_bytes) == (
        3,
        10,
        256,
        5_000,
    )
    assert (classify.max_items, classify.max_characters, classify.max_tokens) == (3, 10, 0)
    assert (language.method.rpartition("/")[2], language.max_items, language.max_runs) == (
        "DetectLanguage",
        3,
        0,
    )
    assert (explain.max_items, explain.max_runs, explain.max_characters) == (8, 1024, 10)


@pytest.mark.parametrize("count", [-1, 101])
def test_wrong_number_of_languages(count):
    with pytest.raises(InvalidArgument, match=f"expected 1 to 100, or 0 for 3, got {count}") as caught:
        check_max_languages(count)
    assert caught.value.field == "max_results"


def test_number_of_runs():
    assert [check_max_runs(count, ExplainBounds()) for count in (0, 16, 1024)] == [128, 16, 1024]
    assert check_max_runs(0, ExplainBounds(max_runs=64)) == 64


@pytest.mark.parametrize("count", [-1, 1, 15, 1025])
def test_wrong_number_of_runs(count):
    with pytest.raises(InvalidArgument, match=f"expected 16 to 1024, or 0 for 128, got {count}") as caught:
        check_max_runs(count, ExplainBounds())
    assert caught.value.field == "max_runs"


def test_label_to_explain():
    check_label("", ("negative", "positive"))
    check_label("positive", ("negative", "positive"))
    with pytest.raises(InvalidArgument, match="one of 'negative', 'positive', or none") as caught:
        check_label("Positive", ("negative", "positive"))
    assert caught.value.field == "label"
