"""Which script a text is of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.nlp.pipeline.script import is_mostly


@pytest.mark.parametrize(
    "text",
    [
        "Good morning",
        "Où est la gare ?",
        "Straße, Łódź, Đà Nẵng",
        "e\u0301le\u0300ve",  # letters with combining marks
        "\uff26\uff55\uff4c\uff4c\u3000\uff57\uff49\uff44\uff54\uff48",  # full width
        "\U0001d400\U0001d41b\U0001d41c",  # mathematical bold
        "123 + 456 = 579",
        "\U0001f600\U0001f44d\U0001f3fd",
        "\x00\x07\u200b\u202e",
        "",
        "Tolstoy (Толстой) wrote War and Peace",
    ],
)
def test_latin_or_nothing_to_tell_by(text):
    assert is_mostly(("Latin",), text)


@pytest.mark.parametrize(
    "text",
    [
        "Доброе утро",
        "早上好",
        "おはようございます",
        "안녕하세요",
        "صباح الخير",
        "בוקר טוב",
        "Καλημέρα",
        "नमस्ते",
        "สวัสดี",
        "OK, доброе утро",
        "Доброе утро \U0001f600",
    ],
)
def test_other_scripts(text):
    assert not is_mostly(("Latin",), text)


def test_a_model_of_another_script():
    assert is_mostly(("Cyrillic",), "Доброе утро")
    assert not is_mostly(("Cyrillic",), "Good morning")


@given(st.text())
def test_any_text_has_an_answer(text):
    assert is_mostly(("Latin",), text) in (True, False)
