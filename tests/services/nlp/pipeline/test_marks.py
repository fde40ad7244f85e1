"""Runs of combining marks: bounded where they are long, and every other text left as it is."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.nlp.pipeline.marks import MAX_MARKS, bound_marks

# Of four classes, one of them a mark only once it is taken apart; and what stands between marks.
MARKS = "\u0301\u0334\u0345\uff9e\u0f73"
OTHERS = "aé\U0002000b \ud800"

runs = st.tuples(st.sampled_from(MARKS + OTHERS), st.integers(0, 70)).map(lambda run: run[0] * run[1])


def is_mark(character: str) -> bool:
    return unicodedata.combining(unicodedata.normalize("NFKD", character)[0]) != 0


def bound_slowly(text: str) -> str:
    kept, run = [], 0
    for character in text:
        run = run + 1 if is_mark(character) else 0
        if run <= MAX_MARKS:
            kept.append(character)
    return "".join(kept)


@given(st.lists(runs, max_size=8).map("".join))
def test_the_first_of_every_run_stay(text: str) -> None:
    assert bound_marks(text) == bound_slowly(text)


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    assert bound_marks(text) == bound_slowly(text)


@pytest.mark.parametrize(
    "text",
    ["", "the cat " * 100, "हिन्दी में लिखा " * 100, "Việt Nam " * 100, "a" + "\u0301" * MAX_MARKS, "\u0301"],
)
def test_texts_without_long_runs_are_the_same_object(text: str) -> None:
    assert bound_marks(text) is text


def test_every_mark_of_unicode_is_one() -> None:
    marks = [chr(code) for code in range(sys.maxunicode + 1) if is_mark(chr(code))]
    assert len(marks) > 900
    assert [mark for mark in marks if len(bound_marks(mark * 40)) != MAX_MARKS] == []
