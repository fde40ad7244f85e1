"""One text of a request before the model sees it: checked, tokenized, its script looked at.

Pure but for the tokenizer it is given; runs on a thread, as long lists take a while.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.nlp.limits import Bounds
from services.nlp.pipeline.script import is_mostly
from services.nlp.pipeline.tokens import TextTokenizer, Tokens
from services.nlp.validation import check_text
from shared.errors import InvalidArgument, let_go


@dataclass(frozen=True)
class Reading:
    """A text that the model can answer."""

    tokens: Tokens
    script_expected: bool


def read_texts(
    texts: Sequence[str], tokenizer: TextTokenizer, *, script: str, bounds: Bounds, check: Callable[[], None]
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
        tokens = tokenizer.read(text)
        if tokens is None:
            results.append(
                InvalidArgument(
                    f"texts[{index}]",
                    expected="letters, digits or signs",
                    got=f"{len(text)} characters that the model does not read, such as blanks",
                )
            )
        else:
            results.append(Reading(tokens, is_mostly(script, text)))
    return results
