"""Where the time of one typed call went: collected per input, reported as the longest of any one input.

watch = Stopwatch()
item = watch.item()                      # one for each image, text or clip
with item.preprocessing(): …
item.add(await model.infer(…))           # as often as the input runs through a graph
with item.postprocessing(): …
reply.timing.CopyFrom(watch.to_timing())
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from sensorium.types.v1 import model_pb2

from shared.inference.batching.waiting import Answer


class ItemStopwatch:
    """The times of one input, in seconds; each phase adds up over all its parts."""

    __slots__ = ("compute_s", "postprocess_s", "preprocess_s", "queue_s")

    def __init__(self) -> None:
        self.preprocess_s = 0.0
        self.queue_s = 0.0
        self.compute_s = 0.0
        self.postprocess_s = 0.0

    @contextlib.contextmanager
    def preprocessing(self) -> Iterator[None]:
        """Count the block as preprocessing, the wait for a thread included."""
        started_s = time.perf_counter()
        try:
            yield
        finally:
            self.preprocess_s += time.perf_counter() - started_s

    @contextlib.contextmanager
    def postprocessing(self) -> Iterator[None]:
        """Count the block as postprocessing."""
        started_s = time.perf_counter()
        try:
            yield
        finally:
            self.postprocess_s += time.perf_counter() - started_s

    def add(self, answer: Answer) -> None:
        """Count one run of a graph: its wait, and its compute time with its part in making the batch."""
        self.queue_s += answer.queue_s
        self.compute_s += answer.batch_s + answer.compute_s


class Stopwatch:
    """The times of one call."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: list[ItemStopwatch] = []

    def item(self) -> ItemStopwatch:
        """Begin one input of the call."""
        item = ItemStopwatch()
        self._items.append(item)
        return item

    def to_timing(self) -> model_pb2.Timing:
        """Each phase's longest time of any one input."""
        timing = model_pb2.Timing()
        for field, attribute in (
            (timing.preprocess, "preprocess_s"),
            (timing.queue, "queue_s"),
            (timing.compute, "compute_s"),
            (timing.postprocess, "postprocess_s"),
        ):
            longest_s = max((getattr(item, attribute) for item in self._items), default=0.0)
            field.FromNanoseconds(int(longest_s * 1e9))
        return timing
