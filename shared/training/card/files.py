"""A card and its pictures, as `release` takes them."""

from __future__ import annotations

from shared.training.card.content import Card
from shared.training.card.rendering import render
from shared.training.compression.pareto import draw_pareto
from shared.training.evaluation.plot import draw_confusion, draw_reliability


def make_files(card: Card) -> tuple[str, dict[str, bytes]]:
    """The text of card.md, and file name -> PNG of the plots that it shows."""
    metrics = card.tests[0].metrics
    plots = {"confusion.png": draw_confusion(metrics.confusion, card.labels, title=card.tests[0].name)}
    if card.calibration is not None:
        plots["reliability.png"] = draw_reliability(
            card.calibration.bins, title=f"{card.name}: confidence and accuracy", error=card.calibration.after
        )
    if card.points:
        plots["pareto.png"] = draw_pareto(card.points, title=f"{card.name}: forms that were tried")
    return render(card), plots
