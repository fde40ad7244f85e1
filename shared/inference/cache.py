"""Answers that are kept: equal requests to a model run once, and later ones not at all.

Here: keys, bounds, and who waits for whom. Not here: which models have a cache (`cache_bytes` of their settings), runs
(`batching/`). One cache belongs to one version of a model and goes with it. It is shared by all callers: who measures
time can find out that somebody has asked the same before, which is one reason why it is off by default.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shared.errors import DeadlineExceeded, InvalidArgument
from shared.inference.batching.batcher import Answer, Batcher
from shared.inference.datatypes import Array
from shared.inference.executor import run_in_executor
from shared.rpc.caller import Priority, current_caller
from shared.rpc.deadline import Deadline
from shared.rpc.report import current_report

# SHA-256 because callers choose the inputs: nobody may make two that share an answer. With the processor's own
# instructions it takes 2 GB/s and is faster than BLAKE2b (1.1 GB/s): 0.4 µs for a row of 16 numbers, 0.3 ms for an image
# of 224 x 224. From this size on (about 0.13 ms) it is done off the event loop.
_SLOW_BYTES = 256 * 1024
# What an entry takes beside its arrays' elements: key, dicts, array headers. Measured with tracemalloc for one output.
_ENTRY_BYTES = 1_000
# What a `str` takes beside its characters, on CPython.
_TEXT_BYTES = 57


@dataclass(slots=True)
class CacheCounts:
    """What a cache has done since it was made."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0


class ResponseCache:
    """The answers of one version of a model, at most `max_bytes` of them; the least recently used one goes first.

    Used on one event loop.
    """

    def __init__(self, max_bytes: int, *, digest: str, model: str, version: str) -> None:
        """`digest` is the artifact's; `model` is the public name, for calls' reports."""
        self.max_bytes = max_bytes
        self.counts = CacheCounts()
        self.n_bytes = 0
        self._model, self._version = model, version
        self._seed = hashlib.sha256(_frame(digest))
        self._answers: OrderedDict[bytes, tuple[Answer, int]] = OrderedDict()
        # Who runs what now, by key and priority: nobody waits for a run that is less urgent than his own would be.
        self._flights: dict[tuple[bytes, Priority], asyncio.Future[Answer | None]] = {}

    def __len__(self) -> int:
        return len(self._answers)

    async def infer(
        self,
        graph: str,
        batcher: Batcher,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        deadline: Deadline,
        *,
        priority: Priority | None = None,
    ) -> Answer:
        """The kept answer, or that of an equal request that is being run, or that of `batcher`, which is kept then.

        An answer that was not run for this request has no times and a batch size of 0. Errors are not kept. A request
        that is wrong (InvalidArgument) is so for all who wait for it; any other end of a run, the caller's leaving
        included, makes the next who waits run it himself.

        Raises:
            InvalidArgument, ResourceExhausted, DeadlineExceeded, Unavailable: as `Batcher.submit`.
        """
        started_ns = time.monotonic_ns()
        if sum(array.nbytes for array in inputs.values()) > _SLOW_BYTES:
            key = await run_in_executor(self._make_key, graph, inputs, outputs)
        else:
            key = self._make_key(graph, inputs, outputs)
        urgency = current_caller().priority if priority is None else max(priority, current_caller().priority)
        flight = key, urgency
        while True:
            found = self._answers.get(key)
            lookup_ns = time.monotonic_ns() - started_ns
            if found is not None:
                self._answers.move_to_end(key)
                return self._hit(found[0], batcher, inputs, started_ns, lookup_ns)
            running = self._flights.get(flight)
            if running is None:
                break
            answer = await _wait(running, deadline, batcher.name)
            if answer is not None:
                return self._hit(answer, batcher, inputs, started_ns, lookup_ns)
        result = self._flights[flight] = asyncio.get_running_loop().create_future()
        # None stands for an end that means nothing to those who wait; they look again.
        outcome: Answer | None = None
        try:
            answer = await batcher.submit(inputs, outputs, deadline, priority=priority)
            outcome = answer
        except InvalidArgument as error:
            result.set_exception(error)
            # Where nobody waits, nobody asks for it.
            result.exception()
            raise
        finally:
            del self._flights[flight]
            if not result.done():
                result.set_result(outcome)
        answered_ns = time.monotonic_ns()
        self._keep(key, answer)
        self.counts.misses += 1
        batcher.statistics.record_miss(lookup_ns + time.monotonic_ns() - answered_ns)
        return answer

    def clear(self) -> None:
        """Forget all answers; runs that are going on are kept again."""
        self._answers.clear()
        self.n_bytes = 0

    def _hit(
        self,
        answer: Answer,
        batcher: Batcher,
        inputs: Mapping[str, Array],
        started_ns: int,
        lookup_ns: int,
    ) -> Answer:
        self.counts.hits += 1
        rows = next(iter(inputs.values())).shape[0] if batcher.max_batch_size else 1
        batcher.statistics.record_hit(rows, time.monotonic_ns() - started_ns, lookup_ns)
        if (report := current_report()) is not None:
            report.add(0.0, 0.0, 0.0, 0, self._model, self._version)
        return replace(answer, queue_s=0.0, batch_s=0.0, compute_s=0.0, batch_size=0)

    def _keep(self, key: bytes, answer: Answer) -> None:
        n_bytes = _ENTRY_BYTES + sum(map(_measure, answer.outputs.values()))
        if n_bytes > self.max_bytes or key in self._answers:
            return
        while self.n_bytes + n_bytes > self.max_bytes:
            _, (_, freed) = self._answers.popitem(last=False)
            self.n_bytes -= freed
            self.counts.evictions += 1
        outputs = {name: _own(array) for name, array in answer.outputs.items()}
        self._answers[key] = replace(answer, outputs=outputs), n_bytes
        self.n_bytes += n_bytes

    def _make_key(self, graph: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> bytes:
        """Digest of everything that an answer depends on. Each part is preceded by its length or has a fixed one."""
        digest = self._seed.copy()
        digest.update(_frame(graph) + _frame_all(outputs))
        for name in sorted(inputs):
            array = inputs[name]
            shape = ",".join(map(str, array.shape))
            digest.update(_frame(name) + _frame(array.dtype.str) + _frame(shape))
            if array.dtype.hasobject:
                for text in array.ravel().tolist():
                    digest.update(_frame(text))
            elif array.size:
                digest.update(np.ascontiguousarray(array).data)
        return digest.digest()


async def _wait(running: asyncio.Future[Answer | None], deadline: Deadline, name: str) -> Answer | None:
    """What an equal request's run comes to, or DeadlineExceeded; the run goes on either way."""
    # `wait` leaves the future alone when who waits is cancelled.
    done, _ = await asyncio.wait((running,), timeout=max(deadline.remaining_s(), 0.0))
    if not done:
        raise DeadlineExceeded(f"waiting for an equal call to {name}")
    return running.result()


def _own(array: Array) -> Array:
    """The array in memory of its own: a row that came out of a batch would hold the whole of it."""
    if array.base is None:
        return array
    copied = array.copy()
    copied.flags.writeable = False
    return copied


def _measure(array: Array) -> int:
    if not array.dtype.hasobject:
        return array.nbytes
    return array.nbytes + sum(_TEXT_BYTES + len(text.encode()) for text in array.ravel().tolist())


def _frame(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(8, "little") + encoded


def _frame_all(texts: Iterable[str]) -> bytes:
    parts = [_frame(text) for text in texts]
    return len(parts).to_bytes(8, "little") + b"".join(parts)
