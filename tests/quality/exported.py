"""PyTorch and ONNX: the same answers on at least 1,000 held-out inputs, for every model that ships.

The network's answers are those that the recorded command kept when it was run again (`check_parity(keep=…)`); the
graph's are computed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shared.training.parity import ITEMS, check_kept
from shared.training.release import PARITY, REFERENCE
from tests.benchmarks.report import Row
from tests.quality.place import Place
from tests.quality.rows import exact, not_measured
from tests.quality.shipped import list_shipped, rebuild

_MOST = 1e-4


def measure(seeds: Sequence[int], place: Place) -> Iterator[Row]:
    """Per model: the largest difference of any output value, and how many inputs that was of."""
    for shipped in list_shipped(place):
        name, folder = f"exported/{shipped.title}", rebuild(shipped, place).folder
        if not (folder / PARITY).exists() or not (folder / REFERENCE).exists():
            why = f"its command keeps no {PARITY} and {REFERENCE}"
            yield not_measured(f"{name}/difference", "largest difference", f"<= {_MOST:g}", why)
            continue
        # The bar is judged here, so the comparison itself lets everything pass.
        parity = check_kept((folder / REFERENCE).read_bytes(), folder / PARITY, atol=float("inf"), at_least=1)
        how = f"float32 export against the network, {parity.items} held-out inputs, one thread"
        yield exact(f"{name}/difference", parity.largest, "largest difference", how, at_most=_MOST)
        yield exact(f"{name}/inputs", parity.items, "inputs", how, at_least=ITEMS)
