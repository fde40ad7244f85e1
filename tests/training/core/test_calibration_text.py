"""What a card says of its temperature: also that it did no good, or that there was none."""

import pytest

from shared.training.card.content import Calibration
from shared.training.card.rendering import describe_temperature


@pytest.mark.parametrize(
    ("before", "after", "temperature", "ending"),
    [
        (0.08, 0.006, 0.32, "0.080 without and 0.006 with it."),
        (0.0271, 0.0273, 0.83, "0.027 without and 0.027 with it."),
        (0.027, 0.032, 0.83, "made the scores worse, not better: do not read them as exact shares."),
        (0.05, 0.05, 1.0, "too few validation items to fit one on; expected calibration error 0.050."),
    ],
)
def test_what_the_temperature_did(before: float, after: float, temperature: float, ending: str) -> None:
    assert describe_temperature(Calibration((), before, after, temperature)).endswith(ending)
