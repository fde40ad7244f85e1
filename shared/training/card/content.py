"""What a card says, as values that were measured; sentences only where numbers cannot say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.inference.manifest import Made, Parity
from shared.training.compression.pareto import Point
from shared.training.evaluation.calibration import Bin
from shared.training.evaluation.interval import Interval
from shared.training.evaluation.metrics import Metrics
from shared.training.evaluation.paired import Comparison
from shared.training.evaluation.slices import Slice


@dataclass(frozen=True)
class Rival:
    """What the model is compared with on the same items: a baseline, a reference, the version before."""

    name: str
    accuracy: Interval
    comparison: Comparison | None = None  # the model against it


@dataclass(frozen=True)
class Test:
    """One held-out set, how the model did on it, and how others did."""

    __test__ = False  # pytest takes classes of such names for its own

    name: str
    metrics: Metrics
    rivals: Sequence[Rival] = ()
    note: str = ""


@dataclass(frozen=True)
class Calibration:
    """Confidence against accuracy on the held-out items."""

    bins: Sequence[Bin]
    before: float  # calibration error without the temperature
    after: float  # with it
    temperature: float  # 1 where none was fitted


@dataclass(frozen=True)
class Card:
    """All that a card holds. The first test is the one whose classes, calibration and plots are shown."""

    name: str
    title: str  # one sentence: what it does, for what input
    labels: Sequence[str]
    tests: Sequence[Test]
    made: Made
    data: Sequence[str]  # one line per source: what, how much, whose, which licence
    license: str
    limits: Sequence[str]  # where it is wrong, worse or must not be used, said plainly
    calibration: Calibration | None = None
    slices: Mapping[str, Sequence[Slice]] = field(default_factory=dict)  # what was cut by -> parts
    fairness: str = ""  # the slice in which people differ, and where the model is worse
    points: Sequence[Point] = ()  # forms that were tried, one of them chosen
    parity: Parity | None = None
    ladder: Sequence[tuple[str, str]] = ()  # further figures: what, figure
    training: str = ""  # network, loss, schedule, seconds, in a few sentences
    machine: str = "two shared x86-64 cores, one thread"
