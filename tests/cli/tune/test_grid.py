"""What is tried and what is chosen."""

import pytest

from cli.tune.grid import choose, is_too_slow, keep_hopeful, list_batches, list_shapes
from shared.inference.tuning.values import Candidate, Figures, TunedValues


def candidate(batch: int, items_per_s: float, latency_s: float, cpu_s: float = 0.01) -> Candidate:
    return Candidate(
        values=TunedValues(max_batch_size=batch, target_batch_s=1, intra_op_threads=1, instances=1),
        figures=Figures(
            items_per_s=items_per_s, latency_s=latency_s, alone_s=0.01, cpu_s_per_item=cpu_s, rows=batch
        ),
    )


@pytest.mark.parametrize(
    ("cores", "shapes"),
    [
        (1, [(1, 1)]),
        (2, [(1, 1), (1, 2), (2, 1)]),
        (3, [(1, 1), (1, 2), (2, 1), (3, 1)]),
        (4, [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (4, 1)]),
    ],
)
def test_threads_times_instances_stay_within_the_cores(cores: int, shapes: list[tuple[int, int]]) -> None:
    assert list_shapes(cores) == shapes


@pytest.mark.parametrize(
    ("most", "batches"),
    [(0, [1]), (1, [1]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8]), (500, [1, 2, 4, 8, 16, 32, 64])],
)
def test_batches_grow_in_powers_of_two_up_to_what_the_graph_allows(most: int, batches: list[int]) -> None:
    assert list_batches(most) == batches


def test_the_most_items_within_the_target_win() -> None:
    slow, good, small = candidate(8, 200, 0.06), candidate(4, 150, 0.04), candidate(1, 100, 0.01)
    assert choose([small, slow, good], 0.05) is good
    assert choose([small, slow, good], 0.1) is slow
    assert choose([small, slow, good], 0.001) is None


def test_of_equal_throughputs_the_least_cpu_time_wins_and_then_the_shortest_latency() -> None:
    busy, frugal = candidate(4, 100, 0.02, cpu_s=0.02), candidate(2, 98, 0.03, cpu_s=0.01)
    assert choose([busy, frugal], 0.05) is frugal
    late, soon = candidate(4, 100, 0.04), candidate(2, 100, 0.02)
    assert choose([late, soon], 0.05) is soon
    assert choose([busy, candidate(2, 90, 0.03, cpu_s=0.001)], 0.05) is busy


def test_the_hopeless_are_not_measured_again() -> None:
    good, near, far, slow = (
        candidate(4, 100, 0.04),
        candidate(2, 85, 0.02),
        candidate(1, 50, 0.01),
        candidate(8, 300, 0.2),
    )
    assert keep_hopeful([good, near, far, slow], 0.05) == [good.values, near.values]
    # Where nothing is near the target, what comes nearest.
    assert keep_hopeful([slow, candidate(16, 400, 0.3)], 0.05) == [slow.values]


def test_larger_batches_are_not_tried_once_one_takes_twice_the_target() -> None:
    assert not is_too_slow(candidate(4, 100, 0.1), 0.05)
    assert is_too_slow(candidate(4, 100, 0.101), 0.05)
