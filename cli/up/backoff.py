"""How long to wait before a process that ended is started again."""

import random
from dataclasses import dataclass, field

FIRST_S = 0.5
LONGEST_S = 30.0
_MOST_DOUBLINGS = 16
# One that served this long did not end by a fault of its start.
SETTLED_S = 10.0


@dataclass
class Backoff:
    """No wait after a settled run; else half a second, doubled each time up to 30 s, give or take a quarter.

    The jitter keeps processes that died of one cause from coming back in step.
    """

    generator: random.Random = field(default_factory=random.Random)
    first_s: float = FIRST_S
    failures: int = 0

    def next_s(self, lived_s: float) -> float:
        """The wait after a run of `lived_s` seconds."""
        if lived_s >= SETTLED_S:
            self.failures = 0
            return 0.0
        # After hours of failures the power alone would be too large a number.
        wait_s = min(self.first_s * 2 ** min(self.failures, _MOST_DOUBLINGS), LONGEST_S)
        self.failures += 1
        return float(wait_s * self.generator.uniform(0.75, 1.25))
