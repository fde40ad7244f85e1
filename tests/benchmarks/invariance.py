"""Whether an answer depends on who else is in the batch: random batches over all shipped graphs.

Callers send inputs of random kinds, sizes, priorities and principals through each graph's batcher, which makes batches of
whoever waits, as in a replica; every batch is one grouping. Each answer is compared with the one that the same input gets
alone: the decision (label, boxes, text, tokens) must be the same, every number within 1e-4 of the output's largest, and it
must lie nearer to its own than to every other input's. Alone, and with as many threads, every answer must be the exported
file's in a plain ONNX Runtime session, bit for bit.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnxruntime
from rich.progress import Progress, TaskID

from cli.place import models_dir
from shared.inference.batching.batcher import Batcher
from shared.inference.datatypes import Array
from shared.inference.model import ServedGraph
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from shared.rpc.caller import Caller, Priority, set_caller
from shared.rpc.deadline import Deadline
from shared.settings import state_dir
from tests.benchmarks.report import Row, describe_machine
from tests.benchmarks.variants import VARIANTS, decide
from tests.support.waiting import within

# Groupings of one round, by graph, stand in VARIANTS; ten rounds make 10,000.
CALLERS = 24
INPUTS = 24
THREADS = 1
TOLERANCE = 1e-4
# Longest that one graph's groupings of one round may take.
ROUND_S = 600.0


@dataclass(frozen=True)
class Known:
    """One input and what it is answered alone."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    decision: tuple[object, ...]


@dataclass
class Findings:
    """What went wrong, counted over answers, and how far numbers were off."""

    groupings: int = 0
    answers: int = 0
    by_rows: Counter[int] = field(default_factory=Counter)
    swapped: int = 0
    decided_otherwise: int = 0
    beyond: int = 0
    largest: float = 0.0
    not_exact: list[str] = field(default_factory=list)  # graphs whose answers alone are not the file's


def measure_difference(got: Mapping[str, Array], wanted: Mapping[str, Array]) -> float:
    """Largest difference of a number, as a share of its output's largest; infinite where shapes differ."""
    largest = 0.0
    for name, array in wanted.items():
        if got[name].shape != array.shape:
            return float("inf")
        if array.size == 0:
            continue
        scale = float(np.abs(array.astype(np.float64)).max()) or 1.0
        difference = np.abs(got[name].astype(np.float64) - array).max()
        largest = max(largest, float(difference) / scale)
    return largest


async def make_known(
    graph: ServedGraph, key: tuple[str, str, str], findings: Findings, rng: np.random.Generator
) -> list[Known]:
    """Inputs of a graph with their answers alone, which are compared with the exported file's."""
    vary, _ = VARIANTS[key]
    golden = graph.artifact.read_golden()
    prefix = f"{key[2]}/in/"
    values = {name.removeprefix(prefix): array for name, array in golden.items() if name.startswith(prefix)}
    plain = open_plain(graph, key[2])
    names = [tensor.name for tensor in graph.loaded.signature.outputs]
    known = []
    exact = True
    for _ in range(INPUTS):
        inputs = vary(values, rng)
        answer = await within(graph.batcher.submit(inputs, (), Deadline.after(ROUND_S)), 60.0)
        exported = plain.run(names, dict(inputs))
        exact &= all(
            np.array_equal(answer.outputs[name], array) for name, array in zip(names, exported, strict=True)
        )
        known.append(Known(inputs, answer.outputs, decide(answer.outputs)))
    if not exact:
        findings.not_exact.append("/".join(key))
    return known


def open_plain(graph: ServedGraph, key: str) -> onnxruntime.InferenceSession:
    """The exported file as anybody would open it, with as many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    file = graph.artifact.graph_file(key)
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def check(answer: Mapping[str, Array], index: int, known: Sequence[Known], findings: Findings) -> None:
    """Compares one answer with the one alone, and with every other input's."""
    findings.answers += 1
    own = known[index]
    difference = measure_difference(answer, own.outputs)
    findings.largest = max(findings.largest, difference)
    if difference > TOLERANCE:
        findings.beyond += 1
        others = [one for number, one in enumerate(known) if number != index]
        findings.swapped += any(measure_difference(answer, one.outputs) < difference for one in others)
    findings.decided_otherwise += decide(answer) != own.decision


async def group(
    batcher: Batcher,
    known: Sequence[Known],
    groupings: int,
    findings: Findings,
    rng: np.random.Generator,
    progress: tuple[Progress, TaskID],
) -> None:
    """Callers that come and go until so many batches have run."""
    count = batcher.statistics.batch_rows.counts
    before = sum(count)
    seen = before

    async def caller(number: int) -> None:
        nonlocal seen
        set_caller(Caller(principal=f"p{number % 5}", priority=Priority(number % 2)))
        while (done := sum(count)) - before < groupings:
            progress[0].advance(progress[1], done - seen)
            seen = done
            index = int(rng.integers(len(known)))
            answer = await batcher.submit(known[index].inputs, (), Deadline.after(ROUND_S))
            findings.by_rows[answer.batch_size] += 1
            check(answer.outputs, index, known, findings)
            for _ in range(int(rng.integers(3))):
                await asyncio.sleep(0)

    await within(asyncio.gather(*(caller(number) for number in range(CALLERS))), ROUND_S)
    progress[0].advance(progress[1], sum(count) - seen)
    findings.groupings += sum(count) - before


async def measure_service(
    service: str, rounds: int, findings: Findings, progress: tuple[Progress, TaskID]
) -> None:
    """All graphs of one service."""
    rng = np.random.default_rng(6)
    # A short wait for company makes batches of all sizes out of few callers.
    settings = InferenceSettings(intra_op_threads=THREADS, watch_s=0, max_queue_delay_s=0.002)
    repository = Repository(models_dir(state_dir(), service), service, settings, {})
    try:
        await within(repository.load_all(), 120.0)
        for key, (_, share) in VARIANTS.items():
            if key[0] != service:
                continue
            model = repository.model(key[1], "")
            served = model.graphs[key[2]]
            known = await make_known(served, key, findings, rng)
            await group(served.batcher, known, share * rounds, findings, rng, progress)
    finally:
        await within(repository.close(), 60.0)


async def find(rounds: int) -> Findings:
    """All shipped graphs."""
    findings = Findings()
    total = rounds * sum(share for _, share in VARIANTS.values())
    with Progress(transient=True) as progress:
        task = progress.add_task("groupings", total=total)
        for service in sorted({key[0] for key in VARIANTS}):
            await measure_service(service, rounds, findings, (progress, task))
    return findings


def make_rows(findings: Findings, rounds: int) -> list[Row]:
    """Counts, and the largest difference."""
    together = sum(count for rows, count in findings.by_rows.items() if rows > 1)
    how = (
        f"{findings.answers} answers, {together} of them out of batches of 2 to {max(findings.by_rows)} rows, "
        f"{len(VARIANTS)} graphs of all shipped models, {THREADS} intra-op thread, {describe_machine()}"
    )
    wanted = 1000 * rounds

    def count(name: str, value: int, unit: str, said: str = how) -> Row:
        return Row(f"invariance/{name}", value, value, value, unit, "== 0", value == 0, said)

    exact = ", ".join(findings.not_exact) or how
    return [
        Row(
            "invariance/groupings",
            findings.groupings, findings.groupings, findings.groupings,
            "batches", f">= {wanted}", findings.groupings >= wanted, how,
        ),
        count("swapped", findings.swapped, "answers"),
        count("decided_otherwise", findings.decided_otherwise, "answers"),
        count("beyond_tolerance", findings.beyond, "answers"),
        Row(
            "invariance/largest_difference",
            findings.largest, findings.largest, findings.largest,
            "of the output's largest", f"<= {TOLERANCE:g}", findings.largest <= TOLERANCE, how,
        ),
        count("alone_not_bit_for_bit", len(findings.not_exact), "graphs", exact),
    ]  # fmt: skip


def measure(rounds: int) -> list[Row]:
    """A thousand groupings a round."""
    return make_rows(asyncio.run(find(rounds)), rounds)
