"""Tokens and rows, with the model's own tokenizer."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.nlp.pipeline.tokens import (
    TextTokenizer,
    TokenRule,
    Tokens,
    make_row,
)
from shared.inference.artifact import read_artifact

RULE = TokenRule(max_tokens=256, sep_id=102)


@pytest.fixture(scope="module")
def tokenizer(models_dir: Path) -> TextTokenizer:
    artifact = read_artifact(models_dir / "nlp" / "minilm" / "1")
    return TextTokenizer(
        artifact.asset("tokenizer").read_bytes(), TokenRule.model_validate(artifact.constants)
    )


def tokens(count: int) -> Tokens:
    return Tokens(tuple(range(1, count + 1)), truncated=False)


def test_reads_words(tokenizer):
    assert tokenizer.read("Hello, world!") == Tokens((101, 7592, 1010, 2088, 999, 102), truncated=False)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "word ",
                "a",
                " ",
                ".",
                "\u4e2d",
                "[MASK]",
                "[",
                "e\u0301",
                "\u0301",
                "\U0001f600",
                "\u200d",
                "unbelievably",
                "x" * 90,
                "#",
                "\n" * 50,
            ]
        ),
        min_size=1,
        max_size=40,
    ),
    st.integers(1, 200),
)
def test_a_head_tells_what_the_whole_text_does(tokenizer, parts, times):
    text = "".join(parts) * times
    ids = tokenizer._tokenizer.encode(text).ids
    expected = Tokens(tuple(ids), truncated=False) if len(ids) > 2 else None
    if len(ids) > RULE.max_tokens:
        expected = Tokens((*ids[: RULE.max_tokens - 1], RULE.sep_id), truncated=True)
    assert tokenizer.read(text) == expected


def test_of_a_long_text_only_the_beginning_is_tokenized(tokenizer, monkeypatch):
    asked = []

    class Counting:
        def __init__(self, real):
            self._real = real

        def encode(self, text):
            asked.append(len(text))
            return self._real.encode(text)

    monkeypatch.setattr(tokenizer, "_tokenizer", Counting(tokenizer._tokenizer))
    assert tokenizer.read("\u4e2d" * 20_000).truncated
    assert sum(asked) <= 2048
    asked.clear()
    # Nothing in the beginning: more of it is read, never much more than twice the text in all.
    assert tokenizer.read(" " * 10_000 + "\u4e2d" * 10_000).truncated
    assert sum(asked) <= 40_000


def test_long_texts_are_cut_and_say_so(tokenizer):
    whole, cut = tokenizer.read("word " * 254), tokenizer.read("word " * 255)
    assert (len(whole.ids), whole.truncated) == (256, False)
    assert (len(cut.ids), cut.truncated) == (256, True)
    assert cut.ids[-1] == 102
    assert cut.ids[:-1] == whole.ids[:-1]


@pytest.mark.parametrize("text", [" ", "\n\t\r", "\x00\x01\x07", "\u200b\u200d", "\u0301", "\ufffd"])
def test_nothing_to_read(tokenizer, text):
    assert tokenizer.read(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "a\x00b",
        "\U0001f600",
        "e\u0301",
        "שלום",
        "\u202eabc",
        "x" * 20_000,
        "\u0301" * 20_000 + "a",
        "a\u0301" * 9_000,
    ],
)
def test_unusual_texts_are_read(tokenizer, text):
    assert 3 <= len(tokenizer.read(text).ids) <= 256


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=300))
def test_any_text_is_read_or_empty(tokenizer, text):
    found = tokenizer.read(text)
    assert found is None or (found.ids[0], found.ids[-1]) == (101, 102)


def test_a_row_is_as_long_as_its_text():
    row = make_row(tokens(3))
    assert row["input_ids"].tolist() == [[1, 2, 3]]
    assert row["attention_mask"].tolist() == [[1, 1, 1]]
    assert row["input_ids"].dtype == row["attention_mask"].dtype == np.int64


@pytest.mark.parametrize("content", [b"", b"{}", b"not json"])
def test_bad_files_are_refused(content):
    with pytest.raises(ValueError, match="Tokenizer"):
        TextTokenizer(content, RULE)


def test_nothing_is_the_marks_alone(tokenizer):
    assert tokenizer.read_nothing() == Tokens((101, 102), truncated=False)


@pytest.mark.parametrize(
    "word",
    ["river ", "don't, ", "Größe ", "unbelievably-long ", "e\u0301te\u0301 ", "早上好", "\U0001f600 \x00a "],
)
@pytest.mark.parametrize("count", [1, 3, 60, 255, 400, 3000])
def test_what_lies_behind_the_end_changes_nothing(tokenizer, word, count):
    text = word * count
    end = tokenizer.find_end(text)
    whole = tokenizer.read(text)
    assert end <= len(text)
    if not whole.truncated:
        assert end == len(text)
        return
    # The cut may go through a word, of which then only the pieces before it count.
    assert tokenizer.read(text[:end]).ids[:-5] == whole.ids[: len(tokenizer.read(text[:end]).ids) - 5]
    assert len(tokenizer.read(text[:end]).ids) >= RULE.max_tokens - 3
