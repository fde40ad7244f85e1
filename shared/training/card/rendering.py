"""A card as Markdown.

Lives here: the words around the numbers, the order of sections. Not here: the numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shared.training.card.content import Calibration, Card, Test
from shared.training.evaluation.interval import Interval
from shared.training.evaluation.metrics import Metrics

# Of tables by class and by slice, so that a card of fifty languages can still be read.
_MOST_ROWS = 60
_MOST_CONFUSIONS = 8


def render(card: Card) -> str:
    """The text of card.md; sections without content are left out."""
    sections = [
        f"# {card.name}\n\n{card.title}",
        "\n\n".join(_render_test(test) for test in card.tests),
        _render_classes(card),
        _render_calibration(card),
        _render_slices(card),
        _render_points(card),
        _render_extras(card),
        _render_training(card),
        "**Data and licence**\n\n" + _list([*card.data, f"Weights: {card.license}."]),
        "**Limits**\n\n" + _list(card.limits),
        _render_rebuild(card),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _render_test(test: Test) -> str:
    metrics = test.metrics
    rows = [
        (
            "**this model**",
            _show(metrics.accuracy),
            f"{metrics.standard_error:.3f}",
            f"{metrics.macro_f1:.3f}",
            "",
            "",
        )
    ]
    for rival in test.rivals:
        against = rival.comparison
        rows.append(
            (
                rival.name,
                _show(rival.accuracy),
                "",
                "",
                "" if against is None else _show_difference(against.difference),
                "" if against is None else f"{against.verdict}, p {_show_p(against.p_value)}",
            )
        )
    header = (
        "on the same items", "accuracy (95 %)", "standard error", "macro F1", "model minus it", "paired test",
    )  # fmt: skip
    text = f"**{test.name}**: {metrics.items} items\n\n" + _table(header, rows)
    return f"{text}\n\n{test.note}" if test.note else text


def _render_classes(card: Card) -> str:
    metrics = card.tests[0].metrics
    rows = [
        (part.label, str(part.support), f"{part.precision:.3f}", f"{part.recall:.3f}", f"{part.f1:.3f}")
        for part in sorted(metrics.per_class, key=lambda part: part.f1)
        if part.support
    ]
    shown = rows[:_MOST_ROWS]
    title = f"**By class** ({card.tests[0].name}), worst first"
    if len(shown) < len(rows):
        title += f"; the worst {len(shown)} of {len(rows)}"
    text = f"{title}\n\n" + _table(("class", "items", "precision", "recall", "F1"), shown)
    if mistakes := _commonest_mistakes(metrics, card.labels):
        text += f"\n\nMost often mistaken: {'; '.join(mistakes)}."
    if len(card.labels) <= 12:
        header = ("true \\ answer", *card.labels)
        lines = [
            (label, *map(str, row))
            for label, row in zip(card.labels, metrics.confusion.tolist(), strict=True)
        ]
        text += "\n\n" + _table(header, lines)
    return text + "\n\n![confusion](confusion.png)"


def _commonest_mistakes(metrics: Metrics, labels: Sequence[str]) -> list[str]:
    confusion = metrics.confusion.copy()
    for index in range(len(confusion)):
        confusion[index, index] = 0
    order = confusion.flatten().argsort(kind="stable")[::-1][:_MOST_CONFUSIONS]
    found = []
    for place in order:
        truth, answer = divmod(int(place), len(labels))
        if count := int(confusion[truth, answer]):
            found.append(f"{labels[truth]} as {labels[answer]} ({count})")
    return found


def _render_calibration(card: Card) -> str:
    said = card.calibration
    if said is None:
        return ""
    rows = [
        (
            f"{part.low:.1f} to {part.high:.1f}",
            str(part.items),
            f"{part.confidence:.3f}",
            f"{part.accuracy:.3f}",
        )
        for part in said.bins
    ]
    return (
        f"**Calibration**: {describe_temperature(said)}\n\n"
        + _table(("confidence", "items", "mean confidence", "accuracy"), rows)
        + "\n\n![reliability](reliability.png)"
    )


def describe_temperature(said: Calibration) -> str:
    """What the temperature did to the scores, also where it did no good."""
    if said.temperature == 1:
        return (
            "no temperature was fitted, for there were too few validation items to fit one on; expected calibration "
            f"error {said.after:.3f}."
        )
    text = (
        f"a temperature of {said.temperature:.2f}, fitted on validation items, is folded into the graph; "
        f"expected calibration error {said.before:.3f} without and {said.after:.3f} with it."
    )
    if round(said.after, 3) > round(said.before, 3):
        text += " On these items the temperature made the scores worse, not better: do not read them as exact shares."
    return text


def _render_slices(card: Card) -> str:
    parts = []
    for key, slices in card.slices.items():
        rows = [
            (part.name, str(part.items), _show(part.accuracy), _show_p(part.p_value))
            for part in slices[:_MOST_ROWS]
        ]
        parts.append(
            f"**By {key}**, worst first\n\n"
            + _table((key, "items", "accuracy (95 %)", "p against the rest"), rows)
        )
    if card.fairness:
        parts.append(f"**Fairness**: {card.fairness}")
    return "\n\n".join(parts)


def _render_points(card: Card) -> str:
    if not card.points:
        return ""
    rows = [
        (
            f"**{point.name}** (chosen)" if point.chosen else point.name,
            _show(Interval(point.quality, point.low, point.high)),
            f"{point.latency_s * 1e3:.3g} ms",
            f"{point.bytes / 1e3:.0f} kB",
            point.note,
        )
        for point in card.points
    ]
    text = f"**Forms that were tried** ({card.machine}, one item alone)\n\n" + _table(
        ("form", "accuracy (95 %)", "CPU time", "graph", ""), rows
    )
    chosen = next((point for point in card.points if point.chosen), None)
    if chosen is not None:
        best = max(card.points, key=lambda point: point.quality)
        lost = (best.quality - chosen.quality) * 100
        text += (
            f"\n\nChosen: {chosen.name}; against the best of these it loses {lost:.1f} points of accuracy."
        )
    return text + "\n\n![forms](pareto.png)"


def _render_extras(card: Card) -> str:
    rows = list(card.ladder)
    if card.parity is not None:
        rows.append(
            (
                "largest difference of graph and PyTorch",
                f"{card.parity.largest:.1e} on {card.parity.items} held-out items (float32)",
            )
        )
    return "**Further figures**\n\n" + _table(("what", "figure"), rows) if rows else ""


def _render_training(card: Card) -> str:
    return f"**Training**: {card.training}" if card.training else ""


def _render_rebuild(card: Card) -> str:
    made = card.made
    allowed = ", ".join(f"{name} within {value:g}" for name, value in made.tolerance.items())
    told = ", ".join(f"{name} {value}" for name, value in made.environment.items() if name != "cpu")
    lines = [
        f"**Made by** `{made.command}`",
        f"at commit {made.commit[:12] or 'unknown'} with {told}.",
    ]
    if allowed:
        lines.append(f"Making it again gives {allowed}.")
    if made.data:
        lines.append(
            "Data: " + ", ".join(f"{part.name} (sha256 {part.sha256[:12]})" for part in made.data) + "."
        )
    return "\n".join(lines)


def _show(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _show_difference(interval: Interval) -> str:
    return f"{interval.value:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"


def _show_p(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [_row(header), _row(["---"] * len(header)), *map(_row, rows)]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    # A bar in a label would end its cell.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
