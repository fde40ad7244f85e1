"""Vocabulary files made by the test."""

import pytest

from services.speech.pipeline.vocabulary import Vocabulary


def make(*entries: bytes) -> bytes:
    content = b""
    for entry in entries:
        size = len(entry)
        content += bytes([size]) if size < 128 else bytes([size % 128 + 128, size // 128])
        content += entry
    return content


WORDS = make(
    b"<unk>",
    b"<s>",
    b"</s>",
    "▁Hello".encode(),
    b",",
    "▁w".encode(),
    b"\xc3",
    b"\xa9",
    b"",
    b"<<ST_0>>",
    b"x" * 300,
)


def test_text_is_joined_and_marks_are_dropped():
    assert Vocabulary(WORDS).text([1, 3, 4, 5, 9, 2]) == "Hello, w"


def test_letters_may_be_spread_over_tokens():
    assert Vocabulary(WORDS).text([5, 6, 7]) == "wé"
    assert Vocabulary(WORDS).text([5, 6]) == "w\ufffd"


def test_long_and_empty_entries():
    vocabulary = Vocabulary(WORDS)
    assert len(vocabulary) == 11
    assert vocabulary.text([8, 10]) == "x" * 300


def test_unknown_numbers_say_nothing():
    assert Vocabulary(WORDS).text([99, -1, 3]) == "Hello"


@pytest.mark.parametrize("content", [WORDS[:-1], WORDS[:-301], b"\x05abc", b"\x85"])
def test_cut_off_files_are_refused(content):
    with pytest.raises(ValueError, match="is cut off"):
        Vocabulary(content)
