"""What can be refused of a request before anything is tokenized; pure.

Not here: whether a text holds anything the model reads (`pipeline.tokens`), and whether a model is there (the repository).
"""

from collections.abc import Sequence

from services.nlp.limits import MAX_LABEL_CHARACTERS, MAX_LABELS, MIN_LABELS, Bounds
from shared.errors import InvalidArgument, InvalidArguments


def check_count(texts: Sequence[str], bounds: Bounds) -> None:
    """Check how many texts there are.

    Raises:
        InvalidArgument: none, or too many.
    """
    if not 1 <= len(texts) <= bounds.max_items:
        raise InvalidArgument(
            "texts",
            expected=f"1 to {bounds.max_items} texts",
            got=f"{len(texts)}",
            fix="" if not texts else f"send them in calls of at most {bounds.max_items}",
        )


def check_text(text: str, index: int, bounds: Bounds) -> None:
    """Check one text's length; what it says is only looked at later.

    Raises:
        InvalidArgument: empty or too long.
    """
    if not 1 <= len(text) <= bounds.max_characters:
        raise InvalidArgument(
            f"texts[{index}]",
            expected=f"1 to {bounds.max_characters} characters",
            got=f"{len(text)} characters",
            fix="" if not text else "split it into paragraphs",
        )


def check_labels(labels: Sequence[str]) -> None:
    """Check the candidate labels: their number, that each says something, and that no two are equal.

    Raises:
        InvalidArgument, InvalidArguments: what is wrong, all at once.
    """
    if not MIN_LABELS <= len(labels) <= MAX_LABELS:
        raise InvalidArgument(
            "candidate_labels", expected=f"{MIN_LABELS} to {MAX_LABELS} labels", got=f"{len(labels)}"
        )
    problems = []
    first: dict[str, int] = {}
    for index, label in enumerate(labels):
        field = f"candidate_labels[{index}]"
        if not label.strip():
            problems.append(
                InvalidArgument(field, expected="a word or phrase", got=f"{len(label)} blank characters")
            )
        elif len(label) > MAX_LABEL_CHARACTERS:
            problems.append(
                InvalidArgument(
                    field,
                    expected=f"at most {MAX_LABEL_CHARACTERS} characters",
                    got=f"{len(label)}",
                    fix="shorten it",
                )
            )
        elif label in first:
            problems.append(
                InvalidArgument(
                    field, expected="distinct labels", got=f"the same as candidate_labels[{first[label]}]"
                )
            )
        first.setdefault(label, index)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise InvalidArguments(problems)
