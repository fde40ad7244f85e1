"""What is tried, and which of what was tried is best. Pure functions.

Not here: measuring it (`measure.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.inference.tuning.values import Candidate, TunedValues

# Larger batches were never better on a CPU, and each doubles the wait of all callers.
_MAX_BATCH = 64
# Throughputs so close together are the same: then CPU time decides, which is measured better.
_SAME = 0.97
# A candidate with less than this share of the best throughput in the first round is not measured again.
_HOPELESS = 0.8


def list_shapes(cores: int) -> list[tuple[int, int]]:
    """Threads and instances whose product is at most `cores`, in powers of two, and all cores in one run."""
    threads = sorted({*_powers(cores), cores})
    return [(each, instances) for each in threads for instances in sorted({*_powers(cores // each)})]


def list_batches(max_rows: int) -> list[int]:
    """Batch sizes in powers of two, and the largest that is allowed; 1 for a graph that runs row by row."""
    most = min(max(max_rows, 1), _MAX_BATCH)
    return sorted({*_powers(most), most})


def is_too_slow(candidate: Candidate, target_s: float) -> bool:
    """Whether larger batches of the same shape need not be tried: they only take longer."""
    return candidate.figures.latency_s > 2 * target_s


def keep_hopeful(candidates: Sequence[Candidate], target_s: float) -> list[TunedValues]:
    """Those of a first round that may turn out best when they are measured again, at least one."""
    near = [each for each in candidates if each.figures.latency_s <= 1.25 * target_s]
    if not near:
        near = [min(candidates, key=lambda each: each.figures.latency_s)]
    most = max(each.figures.items_per_s for each in near)
    return [each.values for each in near if each.figures.items_per_s >= _HOPELESS * most]


def choose(candidates: Sequence[Candidate], target_s: float) -> Candidate | None:
    """The most items a second within the target; of equals, the least CPU time, then the shortest latency.

    None if nothing is within it.
    """
    within = [each for each in candidates if each.figures.latency_s <= target_s]
    if not within:
        return None
    most = max(each.figures.items_per_s for each in within)
    equals = [each for each in within if each.figures.items_per_s >= _SAME * most]
    return min(equals, key=lambda each: (each.figures.cpu_s_per_item, each.figures.latency_s))


def _powers(most: int) -> list[int]:
    powers = [1]
    while powers[-1] * 2 <= most:
        powers.append(powers[-1] * 2)
    return powers
