"""Tokens and rows, with the model's own tokenizer."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.nlp.pipeline.tokens import (
    PAD_MULTIPLE,
    RUN_TOKENS,
    TextTokenizer,
    TokenRule,
    Tokens,
    group_rows,
    make_rows,
)
from shared.inference.artifact import read_artifact

RULE = TokenRule(max_tokens=256, pad_id=0, sep_id=102)


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


def test_rows_are_padded_and_masked():
    rows = make_rows([tokens(3), tokens(16)], RULE)
    assert rows["input_ids"].shape == (2, PAD_MULTIPLE)
    assert rows["input_ids"][0].tolist() == [1, 2, 3] + [0] * 13
    assert rows["attention_mask"].sum(axis=1).tolist() == [3, 16]
    assert rows["input_ids"].dtype == rows["attention_mask"].dtype == np.int64


@given(lengths=st.lists(st.integers(3, 256), min_size=1, max_size=128), max_rows=st.integers(1, 32))
def test_groups_hold_every_text_once_at_one_length_within_the_budget(lengths, max_rows):
    texts = [tokens(length) for length in lengths]
    groups = group_rows(texts, max_rows)
    assert sorted(index for group in groups for index in group) == list(range(len(texts)))
    for group in groups:
        (length,) = {texts[index].padded_length for index in group}
        assert length % PAD_MULTIPLE == 0
        assert len(group) <= max_rows
        assert len(group) == 1 or len(group) * length <= RUN_TOKENS


@pytest.mark.parametrize("content", [b"", b"{}", b"not json"])
def test_bad_files_are_refused(content):
    with pytest.raises(ValueError, match="Tokenizer"):
        TextTokenizer(content, RULE)
