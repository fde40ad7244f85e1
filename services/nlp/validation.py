"""What can be refused of a request before anything is tokenized; pure.

Not here: whether a text holds anything the model reads (`pipeline.tokens`), and whether a model is there (the repository).
"""

from collections.abc import Sequence

from services.nlp.limits import (
    DEFAULT_LANGUAGES,
    MAX_LABEL_CHARACTERS,
    MAX_LABELS,
    MAX_LANGUAGES,
    MIN_LABELS,
    Bounds,
    ExplainBounds,
)
from shared.errors import InvalidArgument, InvalidArguments
from shared.inference.explanation.explaining import choose_runs


def check_count(texts: Sequence[str], max_items: int) -> None:
    """Check how many texts there are.

    Raises:
        InvalidArgument: none, or too many.
    """
    if not 1 <= len(texts) <= max_items:
        raise InvalidArgument(
            "texts",
            expected=f"1 to {max_items} texts",
            got=f"{len(texts)}",
            fix="" if not texts else f"send them in calls of at most {max_items}",
        )


def check_max_languages(count: int) -> None:
    """Check how many languages are wanted per text.

    Raises:
        InvalidArgument: fewer than none, or too many.
    """
    if not 0 <= count <= MAX_LANGUAGES:
        raise InvalidArgument(
            "max_results", expected=f"1 to {MAX_LANGUAGES}, or 0 for {DEFAULT_LANGUAGES}", got=f"{count}"
        )


def check_max_runs(max_runs: int, bounds: ExplainBounds) -> int:
    """Runs per text.

    Raises:
        InvalidArgument: fewer than say anything, or too many.
    """
    return choose_runs(max_runs, bounds.max_runs)


def check_label(label: str, labels: Sequence[str]) -> None:
    """Check the label to explain.

    Raises:
        InvalidArgument: it is not the model's.
    """
    if label and label not in labels:
        raise InvalidArgument(
            "label",
            expected=f"one of {', '.join(repr(one) for one in labels[:MAX_LABELS])}, or none for each text's best",
            got=repr(label[:MAX_LABEL_CHARACTERS]),
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
