"""Texts read one by one: a bad one is said to be one, and holds nothing."""

import gc
import weakref

from services.nlp.limits import Bounds
from services.nlp.reading import read_texts
from shared.errors import InvalidArgument


class Texts(list):
    """A list that can be watched going away."""


def test_refused_texts_are_freed_with_the_request():
    texts = Texts(["x" * 10, ""])
    gone = weakref.ref(texts)
    gc.disable()
    try:
        results = read_texts(texts, lambda text: None, bounds=Bounds(max_characters=5), check=lambda: None)
        del texts
        # Every error still stands, and none of them leads to the request.
        assert [type(result) for result in results] == [InvalidArgument, InvalidArgument]
        assert gone() is None
    finally:
        gc.enable()
