"""What the round of a client has to say, the same for every language."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from cli.demo import word_error_rate
from tests.clients.flaky_proxy import PUSHBACK_S, REFUSED, Attempt

CATS = {"Egyptian cat", "tabby", "tiger cat"}
# A clock may be read a moment after the wait began.
_EARLY_S = 0.02


@dataclass(frozen=True)
class Round:
    """What a program printed, what the proxy saw of it, and what is said in the clip that it was given."""

    said: Mapping[str, Any]
    attempts: tuple[Attempt, ...]
    transcript: str


@dataclass(frozen=True)
class Expectation:
    """One row. measure: a figure out of the round, and whether all of the row is as it should be."""

    unit: str
    bar: str
    measure: Callable[[Any, Round], tuple[float, bool]]

    def judge(self, name: str, done: Round) -> tuple[float | None, bool]:
        """Figure and verdict; a row that is missing or has another shape has no figure."""
        try:
            return self.measure(done.said[name], done)
        except (KeyError, TypeError, ValueError, AttributeError):
            return None, False


def _photo(said: Any, _: Round) -> tuple[float, bool]:
    known = said["label"].split(",")[0] in CATS and said["model"] == "vision/efficientnet-lite0"
    return said["score"], known and 0.2 < said["score"] < 1


def _sentence(said: Any, _: Round) -> tuple[float, bool]:
    return said["near"], said["dimensions"] == 384 and 0.6 < said["near"] < 1 and -0.3 < said["far"] < 0.3


def _clip(said: Any, done: Round) -> tuple[float, bool]:
    wrong = word_error_rate(done.transcript, said["text"])
    return wrong, wrong <= 0.1


def _retried(said: Any, done: Round) -> tuple[float, bool]:
    previous = [attempt.previous for attempt in done.attempts]
    waits_s = [after.at_s - before.at_s for before, after in pairwise(done.attempts)]
    native = previous == list(range(REFUSED + 1)) and min(waits_s) >= PUSHBACK_S - _EARLY_S
    return len(done.attempts), native and said["dimensions"] == 384


def _exactly(expected: Any) -> Expectation:
    def measure(said: Any, _: Round) -> tuple[float, bool]:
        return float(said == expected), said == expected

    return Expectation("", "as expected", measure)


EXPECTATIONS: Mapping[str, Expectation] = {
    "photo": Expectation("score", "0.2 to 1, a cat", _photo),
    "sentence": Expectation("cosine", "0.6 to 1", _sentence),
    "clip": Expectation("word error rate", "<= 0.1", _clip),
    "models": Expectation("models", ">= 8", lambda said, _: (said, said >= 8)),
    "stream": _exactly({"ids": ["a", "b", "c"], "errors": 0}),
    "noToken": _exactly({"code": "UNAUTHENTICATED"}),
    "empty": _exactly(
        {"code": "INVALID_ARGUMENT", "field": "images", "reason": "INVALID_ARGUMENT", "requestId": True}
    ),
    "unknown": _exactly({"code": "NOT_FOUND"}),
    "late": _exactly({"code": "DEADLINE_EXCEEDED"}),
    "retried": Expectation("attempts", f"{REFUSED + 1} by gRPC's own retries, as late as told", _retried),
}
