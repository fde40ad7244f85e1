"""Rated snippets: what is read and left out, splits without a text told twice on both sides, bad files."""

from pathlib import Path

import pytest

from services.nlp.pipeline.tokens import TextTokenizer, TokenRule
from services.nlp.training.data.snippets import (
    ALIKE,
    FILES,
    FOLDER,
    Snippet,
    group_alike,
    read_domain,
    soften,
    split,
)
from services.nlp.training.data.swaps import swap_gender, write_name_sentences, write_people_sentences
from services.nlp.training.data.tokens import pad, tokenize, train_tokenizer
from shared.training.errors import DataError


def words(text: str) -> set[str]:
    return set("".join(letter if letter.isalnum() else " " for letter in text.lower()).split())


@pytest.mark.parametrize(
    ("domain", "count"), [("movie", 10043), ("amazon", 2942), ("tweets", 3362), ("nyt", 2788)]
)
def test_published_files_are_read_without_neutral_snippets(datasets: Path, domain: str, count: int) -> None:
    snippets = read_domain(datasets, domain)
    assert len(snippets) == count
    assert all(0.5 < abs(snippet.rating) <= 4 for snippet in snippets)
    assert len({snippet.name for snippet in snippets}) == count


def test_a_text_told_twice_is_on_one_side_whatever_the_seed(datasets: Path) -> None:
    tweets = read_domain(datasets, "tweets")
    for seed in range(3):
        parts = split(tweets, seed)
        held_out = [words(snippet.text) for snippet in (*parts.test, *parts.validation)]
        for snippet in parts.train[::25]:
            mine = words(snippet.text)
            alike = [other for other in held_out if len(mine & other) >= ALIKE * len(mine | other)]
            assert not alike, snippet.text


def test_sentences_of_one_review_stay_together(datasets: Path) -> None:
    parts = split(read_domain(datasets, "amazon"), 1)
    sources = [
        {snippet.name.split("_")[0] for snippet in part}
        for part in (parts.train, parts.validation, parts.test)
    ]
    assert not sources[0] & sources[1]
    assert not sources[0] & sources[2]
    assert not sources[1] & sources[2]


def test_splits_hold_everything_once_and_depend_on_the_seed_alone(datasets: Path) -> None:
    movie = read_domain(datasets, "movie")
    first, again, other = split(movie, 3), split(movie[::-1], 3), split(movie, 4)
    assert len(first.train) + len(first.validation) + len(first.test) == len(movie)
    assert {snippet.name for snippet in first.test} == {snippet.name for snippet in again.test}
    assert {snippet.name for snippet in first.test} != {snippet.name for snippet in other.test}
    assert 0.13 < len(first.test) / len(movie) < 0.17


def test_groups_are_closed_over_chains() -> None:
    texts = ("a b c d e f g h", "a b c d e f g x", "a b c d e f y x", "nothing of the kind at all")
    groups = [found.group for found in group_alike([Snippet(text, text, 1.0, text) for text in texts])]
    assert groups[0] == groups[1] == groups[2] != groups[3]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "sensorium data pull vader"),
        ("", "no snippet"),
        ("1\t2.5\tgood\n2\t3.0\tbetter\n", "one label"),
        ("1\t2.5\tgood\n2\t-3.0\n", "line 2"),
        ("1\tvery\tgood\n", "line 1"),
        ("1\t7.5\tgood\n2\t-3\tbad\n", "rating from -4 to 4"),
        ("1\tnan\tgood\n2\t-3\tbad\n", "rating from -4 to 4"),
        (b"1\t2.5\t\xff\xfe\n", "UTF-8"),
    ],
)
def test_bad_files_are_told(tmp_path: Path, content: str | bytes | None, reason: str) -> None:
    path = tmp_path / FOLDER / FILES["movie"]
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=reason) as caught:
        read_domain(tmp_path, "movie")
    assert str(path) in str(caught.value)


def test_soft_targets_grow_with_the_rating() -> None:
    soft = soften([-4.0, -0.6, 0.6, 4.0], 1.5)
    assert list(soft) == sorted(soft)
    assert soft[0] < 0.01
    assert 0.6 < soft[2] < 0.8


def test_a_trained_tokenizer_is_read_by_the_serving_pipeline(datasets: Path) -> None:
    texts = [snippet.text for snippet in read_domain(datasets, "movie")[:2000]]
    content = train_tokenizer(texts, 3000)
    assert content == train_tokenizer(texts, 3000)
    read = TextTokenizer(content, TokenRule(max_tokens=16, sep_id=3)).read(
        "A WONDERFUL film, wonderfully played"
    )
    lower = TextTokenizer(content, TokenRule(max_tokens=16, sep_id=3)).read(
        "a wonderful film, wonderfully played"
    )
    assert read is not None
    assert read == lower
    assert (read.ids[0], read.ids[-1]) == (2, 3)
    assert max(read.ids) < 3000
    rows = tokenize(content, ["short", "a much longer text " * 20], 16)
    filled, mask = pad(rows, 16)
    assert filled.shape == (2, 16)
    assert mask.sum(1).tolist() == [len(rows[0]), 16]


def test_swapping_gender_keeps_case_and_leaves_other_texts() -> None:
    assert swap_gender("He told HER that the actor was Good.") == "She told HIS that the actress was Good."
    assert swap_gender("The therapist was good.") is None


def test_sentences_about_people_differ_in_the_people_alone() -> None:
    names, people = write_name_sentences(), write_people_sentences()
    assert len({sentence.text for sentence in names}) == len(names)
    assert any(sentence.text == "My neighbour is an atheist." for sentence in people)
    groups = [sentence.group for sentence in names]
    assert len({groups.count(group) for group in groups}) == 1
