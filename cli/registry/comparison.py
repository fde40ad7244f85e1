"""What two versions' answers to the same held-out items are worth, and which gates a version must clear.

Not here: getting the answers (`trial`), the tests (`shared.gates`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.gates import Bound, Paired
from shared.inference.artifact import Artifact
from shared.inference.heldout import HeldOutSet

# Of the bootstrap: as many draws as a 95 % interval needs, the same each time.
_DRAWS, _SEED = 1000, 7


@dataclass(frozen=True)
class Answers:
    """A version's first labels for the items of a set, in order; "" where it gave none."""

    version: str
    labels: tuple[str, ...]

    def measure(self, held_out: HeldOutSet) -> dict[str, float]:
        """`accuracy` and `macro_f1`, an item without an answer being wrong; `unanswered` is the share of those."""
        truth = [item.label for item in held_out.items]
        right = sum(label == wanted for label, wanted in zip(self.labels, truth, strict=True))
        scores = []
        for one in sorted(set(truth)):
            hits = sum(label == wanted == one for label, wanted in zip(self.labels, truth, strict=True))
            named = self.labels.count(one) + truth.count(one)
            scores.append(2 * hits / named)
        return {
            "accuracy": right / len(truth),
            "macro_f1": sum(scores) / len(scores),
            "unanswered": self.labels.count("") / len(truth),
        }


@dataclass(frozen=True)
class Comparison:
    """An old and a new version on the same items."""

    held_out: HeldOutSet
    old: Answers
    new: Answers

    @property
    def paired(self) -> Paired:
        """How many items each got right."""
        return self._count(range(len(self.held_out.items)))

    def by_slice(self) -> Iterator[tuple[str, Paired]]:
        """The same for each slice of the items, by name."""
        slices: dict[str, list[int]] = {}
        for number, item in enumerate(self.held_out.items):
            if item.slice:
                slices.setdefault(item.slice, []).append(number)
        for name in sorted(slices):
            yield name, self._count(slices[name])

    def bootstrap_f1(self) -> tuple[float, float]:
        """The 95 % interval of the difference of the macro F1 scores: the items drawn again, each with both its answers."""
        truth = [item.label for item in self.held_out.items]
        known = {label: code for code, label in enumerate(sorted(set(truth)))}
        # Answers that are no label of the set count for none of them.
        other = len(known)
        wanted, old, new = (
            np.array([known.get(label, other) for label in labels])
            for labels in (truth, self.old.labels, self.new.labels)
        )
        rng = np.random.default_rng(_SEED)
        drawn = (rng.integers(len(truth), size=len(truth)) for _ in range(_DRAWS))
        differences = [
            _macro_f1(wanted[rows], new[rows], other) - _macro_f1(wanted[rows], old[rows], other)
            for rows in drawn
        ]
        low, high = np.quantile(differences, [0.025, 0.975])
        return float(low), float(high)

    def _count(self, numbers: Sequence[int]) -> Paired:
        items = self.held_out.items
        return Paired.count(
            [self.old.labels[n] == items[n].label for n in numbers],
            [self.new.labels[n] == items[n].label for n in numbers],
        )


def _macro_f1(wanted: NDArray[np.int64], got: NDArray[np.int64], classes: int) -> float:
    """The mean over the classes that were drawn."""
    hits = np.bincount(wanted[wanted == got], minlength=classes + 1)[:classes]
    true = np.bincount(wanted, minlength=classes + 1)[:classes]
    named = true + np.bincount(got, minlength=classes + 1)[:classes]
    return float((2 * hits[true > 0] / named[true > 0]).mean())


def gather_bounds(
    candidate: Artifact, serving: Artifact | None, catalogued: Mapping[str, object] | None
) -> list[Bound]:
    """What a candidate must clear: its own gates, those of the version that serves, those of the catalogue's `gates`.

    All of them, so that nobody gets through by asking less of himself.

    Raises:
        ValueError: the catalogue's are not `{metric: {min, max}}`.
    """
    bounds: dict[tuple[str, float | None, float | None], Bound] = {}
    for source, artifact in (
        ("agreed for this version", candidate),
        ("agreed for the version that serves", serving),
    ):
        for metric, gate in (artifact.manifest.quality.gates if artifact is not None else {}).items():
            bounds.setdefault((metric, gate.min, gate.max), Bound(metric, gate.min, gate.max, source))
    said = (catalogued or {}).get("gates", {})
    if not isinstance(said, Mapping):
        raise ValueError(f"gates: expected a table of metrics, got {said!r}")
    for metric, limits in said.items():
        if not isinstance(limits, Mapping) or not limits or set(limits) - {"min", "max"}:
            raise ValueError(f"gates: {metric}: expected min and max, got {limits!r}")
        low, high = limits.get("min"), limits.get("max")
        for limit in (low, high):
            if limit is not None and not isinstance(limit, int | float):
                raise ValueError(f"gates: {metric}: expected numbers, got {limit!r}")
        bounds.setdefault((metric, low, high), Bound(metric, low, high, "agreed in the catalogue"))
    return list(bounds.values())
