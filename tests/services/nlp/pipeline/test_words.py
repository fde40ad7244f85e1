"""Texts cut into what can be left out of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.nlp.pipeline.words import Stretch, join_stretches, leave_out, split_words


def cut(text: str) -> list[str]:
    return [text[begin:end] for begin, end in split_words(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \n\t\x00", []),
        ("Not a good film!!", ["Not", "a", "good", "film", "!!"]),
        ("I don't know, well-known 3.5", ["I", "don't", "know", ",", "well-known", "3", ".", "5"]),
        ("'quoted' rock'", ["'", "quoted", "'", "rock", "'"]),
        ("今日はいい", ["今", "日", "は", "い", "い"]),
        ("ok 今日 ok", ["ok", "今", "日", "ok"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        ("caf\u0065\u0301 \U0001f600\U0001f44d", ["caf\u0065\u0301", "\U0001f600\U0001f44d"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert cut(text) == words


@given(st.text(max_size=60))
def test_words_stand_in_order_and_hold_all_that_is_not_blank(text: str) -> None:
    words = split_words(text)
    edges = [edge for word in words for edge in word]
    assert edges == sorted(edges)
    left = leave_out(text, words, [False] * len(words))
    assert not cut(left)
    assert leave_out(text, words, [True] * len(words)) == text


def test_leaving_words_out() -> None:
    text = "Not a good film!"
    words = split_words(text)
    assert leave_out(text, words, [True, True, False, True, False]) == "Not a  film"


def test_joined_stretches_cover_all_words_evenly() -> None:
    words = [Stretch(3 * index, 3 * index + 2) for index in range(100)]
    joined = join_stretches(words, 7)
    assert len(joined) == 7
    assert (joined[0].begin, joined[-1].end) == (0, words[-1].end)
    assert {round((stretch.end - stretch.begin) / 3) for stretch in joined} == {14, 15}
    assert join_stretches(words, 100) == words
