"""Whether an exported graph answers as the network that it came from, on items that training never saw.

Lives here: the comparison, and keeping what torch answered so that it can be made again later without torch. Not here:
exporting (`export.py`), the tolerance that a serving machine is given (`golden.npz`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from shared.inference.manifest import Parity
from shared.training.errors import TrainingError

Batch = Mapping[str, NDArray[Any]]

ATOL = RTOL = 1e-4
# A parity of a handful of inputs misses what happens at long texts, loud clips and rare tokens.
ITEMS = 1000


class ParityError(TrainingError):
    """A graph does not answer as its network does; the text says where and by how much."""


def check_parity(
    module: Any,
    content: bytes,
    batches: Iterable[Batch],
    *,
    atol: float = ATOL,
    rtol: float = RTOL,
    at_least: int = ITEMS,
    keep: Path | None = None,
) -> Parity:
    """Compare every output of the graph with torch's: |graph - torch| <= atol + rtol * |torch|.

    module: the network, whose forward takes the inputs by their names. batches: inputs of held-out items, rows first.
    keep: an .npz file that gets the inputs and torch's answers, for `check_kept`.

    Raises:
        ParityError: they differ by more, or there are fewer items than `at_least`.
    """
    session = _open(content)
    names = [output.name for output in session.get_outputs()]
    comparison = _Comparison(atol, rtol)
    kept: dict[str, NDArray[Any]] = {}
    for index, batch in enumerate(batches):
        expected = ask_torch(module, batch, names)
        comparison.add(session, batch, expected)
        if keep is not None:
            kept |= {f"{index}/in/{name}": value for name, value in batch.items()}
            kept |= {f"{index}/out/{name}": value for name, value in expected.items()}
    parity = comparison.conclude(at_least)
    if keep is not None:
        keep.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(keep, **kept)
    return parity


def check_kept(
    content: bytes, path: Path, *, atol: float = ATOL, rtol: float = RTOL, at_least: int = ITEMS
) -> Parity:
    """The same comparison with what `check_parity` kept of torch's answers.

    Raises:
        ParityError: as `check_parity`.
    """
    session = _open(content)
    comparison = _Comparison(atol, rtol)
    for inputs, expected in read_kept(path):
        comparison.add(session, inputs, expected)
    return comparison.conclude(at_least)


def read_kept(path: Path) -> list[tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]]:
    """Batches of inputs and torch's answers that `check_parity` kept, in their order."""
    batches: dict[int, tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]] = {}
    with np.load(path, allow_pickle=False) as stored:
        for key in stored.files:
            index, side, name = key.split("/", 2)
            batches.setdefault(int(index), ({}, {}))[side == "out"][name] = stored[key]
    return [batches[index] for index in sorted(batches)]


def ask_torch(module: Any, batch: Batch, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
    """What the network answers to a batch, by the outputs' names; on the device where it is, evaluating, in float32."""
    import torch

    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            answer = module(
                **{
                    name: torch.from_numpy(np.ascontiguousarray(value)).to(device)
                    for name, value in batch.items()
                }
            )
    finally:
        module.train(was_training)
    values = answer if isinstance(answer, tuple | list) else (answer,)
    return {name: value.float().cpu().numpy() for name, value in zip(outputs, values, strict=True)}


def _open(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@dataclass
class _Comparison:
    """What was seen so far."""

    atol: float
    rtol: float
    items: int = 0
    largest: float = 0.0
    worst: list[str] = field(default_factory=list)  # at most one text per output

    def add(
        self, session: onnxruntime.InferenceSession, inputs: Batch, expected: Mapping[str, NDArray[Any]]
    ) -> None:
        got = session.run(list(expected), dict(inputs))
        for (name, wanted), value in zip(expected.items(), got, strict=True):
            if value.shape != wanted.shape:
                raise ParityError(f"{name}: expected shape {list(wanted.shape)}, got {list(value.shape)}")
            difference = np.abs(value.astype(np.float64) - wanted)
            # Not a number is no difference that can be small.
            bad = ~(difference <= self.atol + self.rtol * np.abs(wanted))
            if bad.any() and not self.worst:
                row = int(np.argwhere(bad)[0][0])
                self.worst.append(
                    f"{name}: item {self.items + row}: graph and network differ by {float(difference[bad].max()):.3g}, "
                    f"expected at most {self.atol:g} + {self.rtol:g} of the value"
                )
            self.largest = max(self.largest, float(difference.max(initial=0.0)))
        self.items += int(next(iter(inputs.values())).shape[0])

    def conclude(self, at_least: int) -> Parity:
        if self.worst:
            raise ParityError(self.worst[0])
        if self.items < at_least:
            raise ParityError(f"held-out inputs: expected at least {at_least}, got {self.items}")
        return Parity(items=self.items, largest=self.largest, atol=self.atol, rtol=self.rtol)
