"""Texts of a request before a model sees them: checked, and read as the model reads them.

Here: the values and the loop over a list. Not here: how a kind of model reads (`reader`), running (`running`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray
from sensorium.nlp.v1 import nlp_service_pb2 as pb

from services.nlp.limits import Bounds
from services.nlp.validation import check_text
from shared.errors import InvalidArgument, let_go
from shared.inference.executor import Check, run_while_wanted
from shared.rpc.deadline import Deadline

# Reading this many characters takes 0.2 ms, less than going to a thread and back under load.
_INLINE_CHARACTERS = 1024


@dataclass(frozen=True)
class Reading:
    """A text that the model can answer."""

    row: Mapping[str, NDArray[Any]]  # the graph's inputs, one row
    length: int  # tokens or n-grams
    truncated: bool
    supported: bool  # whether the model knows the text's script

    @property
    def support(self) -> "pb.LanguageSupport.ValueType":
        """As replies say it."""
        return pb.LANGUAGE_SUPPORT_EXPECTED if self.supported else pb.LANGUAGE_SUPPORT_UNSUPPORTED_SCRIPT


class TextReader(Protocol):
    """How one model reads; usable from several threads."""

    def read(self, text: str) -> Reading | None:
        """Any Unicode text; None if there is nothing in it that the model reads."""

    def read_nothing(self) -> Reading:
        """What is left of a text of which every word is taken away."""

    def find_end(self, text: str) -> int:
        """How many code points of a text the model reads."""


async def read_all(
    texts: Sequence[str], read: Callable[[str], Reading | None], bounds: Bounds, deadline: Deadline
) -> list[Reading | InvalidArgument]:
    """One reading, or why there is none, for each text in order; long lists are read on a thread."""

    def check() -> None:
        deadline.check("reading the texts")

    def work(check: Check) -> list[Reading | InvalidArgument]:
        return read_texts(texts, read, bounds=bounds, check=check)

    small = sum(map(len, texts)) <= _INLINE_CHARACTERS
    return work(check) if small else await run_while_wanted(work)


def read_texts(
    texts: Sequence[str],
    read: Callable[[str], Reading | None],
    *,
    bounds: Bounds,
    check: Callable[[], None],
) -> list[Reading | InvalidArgument]:
    """Read each text, or say why it cannot be answered; in the order of the request.

    `check` is called before every text and raises when the work is no longer wanted.
    """
    results: list[Reading | InvalidArgument] = []
    for index, text in enumerate(texts):
        check()
        try:
            check_text(text, index, bounds)
        except InvalidArgument as error:
            let_go(error)
            results.append(error)
            continue
        reading = read(text)
        if reading is None:
            results.append(
                InvalidArgument(
                    f"texts[{index}]",
                    expected="letters or signs that the model reads",
                    got=f"{len(text)} characters of other kinds, such as blanks or, to some models, digits",
                )
            )
        else:
            results.append(reading)
    return results
