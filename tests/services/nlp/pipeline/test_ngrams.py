"""N-grams of texts: what counts as one, that training and serving hash alike, and that no text costs too much."""

import time
from collections import Counter
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from services.nlp.pipeline.marks import MAX_MARKS
from services.nlp.pipeline.ngrams import NgramReader, NgramRule, Ngrams, hash_ngrams, make_row

WORDS = NgramRule(word_orders=(1, 2))
CHARACTERS = NgramRule(character_orders=(1, 2, 3))
EVERYTHING = NgramRule(
    word_orders=(1, 2, 3),
    character_orders=(1, 2, 3, 4),
    keep=("letters", "digits", "signs"),
    characters="across",
)


def make_reader(rule: NgramRule, *texts: str) -> NgramReader:
    """A model that knows every n-gram of some texts."""
    hashes = np.unique(np.concatenate([hash_ngrams(text, rule) for text in texts]))
    return NgramReader(rule, hashes.astype("<u4").tobytes())


def count(text: str, rule: NgramRule) -> Counter[int]:
    return Counter(hash_ngrams(text, rule).tolist())


def test_words_and_pairs_are_counted_as_they_stand_in_the_text() -> None:
    # the, cat, saw, the, dog; and four pairs.
    assert sorted(count("The cat saw the dog", WORDS).values()) == [1, 1, 1, 1, 1, 1, 1, 2]
    assert count("the", WORDS).keys() <= count("The cat", WORDS).keys()
    assert not count("cats", WORDS).keys() & count("cat", WORDS).keys()


def test_runs_of_characters_are_those_of_plain_python() -> None:
    text = "ab a abc"
    padded = f" {text} "
    wanted = Counter(
        padded[at : at + order]
        for order in (1, 2, 3)
        for at in range(len(padded) - order + 1)
        if padded[at : at + order].strip() and " " not in padded[at : at + order][1:-1]
    )
    assert sorted(count(text, CHARACTERS).values()) == sorted(wanted.values())


def test_runs_across_words_hold_blanks_inside() -> None:
    across = NgramRule(character_orders=(3,), characters="across")
    inside = NgramRule(character_orders=(3,))
    # " ab", "ab ", "b c", " cd", "cd ".
    assert len(hash_ngrams("ab cd", across)) == 5
    assert len(hash_ngrams("ab cd", inside)) == 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Straße", "straße"),
        ("ﬁne", "fine"),
        ("a  b\n\tc", "a b c"),
        ("don't", "don t"),
        ("price: 12 345 €!", "price"),
        ("über", "u\u0308ber"),
    ],
)
def test_texts_that_say_the_same_read_the_same(one: str, other: str) -> None:
    assert count(one, WORDS) == count(other, WORDS)
    assert count(one, CHARACTERS) == count(other, CHARACTERS)


def test_numbers_count_by_their_length_and_signs_as_themselves() -> None:
    rule = NgramRule(word_orders=(1,), keep=("letters", "digits", "signs"))
    assert count("pay 123!", rule) == count("pay 789!", rule)
    assert count("pay 123!", rule) != count("pay 1234!", rule)
    assert count("now!!!", rule) != count("now", rule)


def test_marks_that_letters_are_written_with_do_not_cut_words() -> None:
    assert len(hash_ngrams("हिन्दी", NgramRule(word_orders=(1,)))) == 1
    assert len(hash_ngrams("𠀋漢", NgramRule(word_orders=(1,)))) == 1


def test_a_word_is_no_run_of_characters() -> None:
    words, characters = (
        hash_ngrams("abc", rule) for rule in (NgramRule(word_orders=(1,)), NgramRule(character_orders=(3,)))
    )
    assert not set(words.tolist()) & set(characters.tolist())


def test_a_model_leaves_out_what_it_does_not_know() -> None:
    reader = make_reader(WORDS, "the cat")
    found = reader.read("the cat and the dog")
    assert found is not None
    assert found.ids.tolist() == sorted(found.ids.tolist())
    assert sorted(found.counts.tolist()) == [1.0, 1.0, 2.0]  # cat, the cat; the
    assert found.known == pytest.approx(4 / 9)
    assert 1 <= found.ids.min() <= found.ids.max() <= len(reader) == 3


def test_a_text_of_which_a_model_knows_nothing_is_filling() -> None:
    reader = make_reader(WORDS, "the cat")
    found = reader.read("слово")
    assert found is not None
    assert found.known == 0
    row = make_row(found)
    assert row["ids"].tolist() == [[0]]
    assert row["counts"].tolist() == [[0.0]]


@pytest.mark.parametrize("text", ["", "  \n", "123 !?", "🙂🙂", "\u200b\u200d", "\x00\x01"])
def test_a_text_without_letters_says_nothing(text: str) -> None:
    assert make_reader(WORDS, "the cat").read(text) is None


def test_rows_have_the_types_of_the_graph() -> None:
    found = make_reader(WORDS, "the cat").read("the cat")
    assert found is not None
    row = make_row(found)
    assert (row["ids"].dtype, row["ids"].shape) == (np.int64, (1, 3))
    assert (row["counts"].dtype, row["counts"].shape) == (np.float32, (1, 3))


def test_what_lies_behind_the_bound_does_not_count() -> None:
    rule = NgramRule(word_orders=(1,), max_characters=7)
    reader = make_reader(rule, "one two three")
    found = reader.read("one two three")
    assert found is not None
    assert found.truncated
    assert len(found.ids) == 2
    assert not make_reader(rule, "one two").read("one two").truncated  # type: ignore[union-attr]


def test_hashes_are_those_of_every_machine_and_release() -> None:
    """Shipped tables hold hashes: another one would be another model."""
    text = "Ein kleines Haus, 3 Fenster – naïve façade; हिन्दी 漢字 かな"
    digest = sha256(np.sort(hash_ngrams(text, EVERYTHING)).astype("<u4").tobytes()).hexdigest()
    assert digest == "7e6a16e08f0158950eed37f469997ec84e1d8b452c6b0cea87d75c7ca6c76a03"


@pytest.mark.parametrize(
    "table", [b"", b"\x01\x00", np.array([2, 1], "<u4").tobytes(), np.array([1, 1], "<u4").tobytes()]
)
def test_a_table_that_is_none_is_refused(table: bytes) -> None:
    with pytest.raises(ValueError, match="ngrams: expected"):
        NgramReader(WORDS, table)


@pytest.mark.parametrize(
    "constants",
    [
        {},
        {"ngrams": {}},
        {"ngrams": {"word_orders": [0]}},
        {"ngrams": {"character_orders": [9]}},
        {"ngrams": {"word_orders": [1], "keep": ["vowels"]}},
        {"ngrams": {"word_orders": [1], "more": 1}},
    ],
)
def test_constants_that_say_no_rule_are_refused(constants: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        NgramReader.open(constants, np.array([1], "<u4").tobytes())


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    hashes = hash_ngrams(text, EVERYTHING)
    assert hashes.dtype == np.uint32
    if not len(hashes):
        return
    found = make_reader(EVERYTHING, text).read(text)
    assert isinstance(found, Ngrams)
    assert found.known == 1.0
    assert found.counts.sum() == len(hashes)
    assert (np.diff(found.ids) > 0).all()


def test_lone_surrogates_are_no_letters() -> None:
    assert hash_ngrams("\ud800", EVERYTHING).tolist() == []


def test_the_longest_text_costs_milliseconds() -> None:
    """The bound is loose: it catches a loop over characters, not a busy machine."""
    reader = make_reader(EVERYTHING, "the cat")
    text = "".join(chr(0x4E00 + number % 20_000) for number in range(1_000_000))
    reader.read(text)
    best_s = float("inf")
    for _ in range(3):
        began_s = time.process_time()
        reader.read(text)
        best_s = min(best_s, time.process_time() - began_s)
    assert best_s < 0.5


@pytest.mark.parametrize(
    "marks", ["\u0345" * 10_000 + "\u0334" * 9_999, "\u0345\u0334" * 10_000, "\uff9e" * 20_000]
)
def test_of_a_run_of_marks_the_first_count(marks: str) -> None:
    """All of them would be sorted by insertion: seconds of the whole process for one text."""
    assert count("the a" + marks, EVERYTHING) == count("the a" + marks[:MAX_MARKS], EVERYTHING)


def test_a_text_of_marks_costs_what_others_cost() -> None:
    """The bound is loose: unbounded runs cost two thousand times as much as letters do."""
    reader = make_reader(EVERYTHING, "the cat")

    def measure(text: str) -> float:
        times = []
        for _ in range(3):
            begun_s = time.thread_time()
            reader.read(text)
            times.append(time.thread_time() - begun_s)
        return min(times)

    assert measure("a" + "\u0345" * 10_000 + "\u0334" * 9_999) < 50 * measure("é" * 20_000)
