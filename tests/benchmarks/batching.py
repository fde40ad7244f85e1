"""Batches by cost against batches by count that are filled up to their longest: items of unlike lengths, 32 callers.

In one process, on one session, with one intra-op thread; every round takes both, every second round in reverse order. Each
caller sends his next item when he has the answer to the one before. Both get the same items in the same order. MiniLM reads
texts of 4 to 200 tokens, at random alike and as many of each order of size (short ones are the most, as in real texts);
Silero VAD, Transcribe's first graph, hears clips of 1 to 30 s. Where long ones are as many as short ones, filling is
37 to 46 % of a batch by count, and leaving it out wins 1.6 to 1.85 times: that row has no bar.

Transcribe's other graphs may not be batched: Moonshine's are quantised dynamically, with one scale over all that runs
together, so that a clip's text would depend on its neighbours.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from rich.progress import Progress

from cli.place import models_dir
from shared.inference.batching.batcher import Batcher
from shared.inference.datatypes import Array
from shared.inference.repository.repository import Repository
from shared.inference.settings import InferenceSettings
from shared.rpc.deadline import Deadline
from shared.settings import state_dir
from tests.benchmarks.counting import CountBatcher
from tests.benchmarks.report import Row, describe_machine, judge
from tests.support.waiting import within

CALLERS = 32
THREADS = 1
FASTER = 2.0
MOST_WASTE = 0.25
# How long one round of one way may take.
ROUND_S = 300.0
Item: TypeAlias = Mapping[str, Array]
Submit: TypeAlias = Callable[[Item], Awaitable[object]]


@dataclass(frozen=True)
class Case:
    """Items of one kind for one graph."""

    name: str
    service: str
    graph: str
    output: str
    unit: str
    items: Sequence[Item]
    bar: float | None = FASTER


@dataclass(frozen=True)
class Sample:
    """One run over all items: items per second, CPU seconds per item, share of filling."""

    per_s: float
    cpu_s: float
    waste: float


def make_cases() -> list[Case]:
    """The same lengths in every run."""
    rng = np.random.default_rng(20)
    alike = rng.integers(4, 201, 96)
    by_size = np.exp(rng.uniform(math.log(4), math.log(200), 128)).astype(int)
    seconds = {
        "uniform": rng.uniform(1, 30, 64),
        "log_uniform": np.exp(rng.uniform(math.log(1), math.log(30), 64)),
    }

    def text(length: int) -> Item:
        ids = rng.integers(1000, 29000, (1, length))
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}

    def clip(length_s: float) -> Item:
        return {"audio": rng.standard_normal((1, int(16000 * length_s)), np.float32) / 10}

    return [
        Case("minilm/uniform", "nlp", "minilm", "embedding", "texts", [text(n) for n in alike]),
        Case("minilm/log_uniform", "nlp", "minilm", "embedding", "texts", [text(n) for n in by_size]),
        *(
            Case(
                f"silero-vad/{kind}",
                "speech",
                "silero-vad",
                "probability",
                "clips",
                [clip(n) for n in lengths],
                None if kind == "uniform" else FASTER,
            )
            for kind, lengths in seconds.items()
        ),
    ]


async def send_all(items: Sequence[Item], submit: Submit) -> tuple[float, float]:
    """Sends the items over the callers; wall and CPU seconds."""
    left = iter(items)

    async def caller() -> None:
        for item in left:
            await submit(item)

    wall_s, cpu_s = time.perf_counter(), time.process_time()
    await within(asyncio.gather(*(caller() for _ in range(CALLERS))), ROUND_S)
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


async def run_by_cost(case: Case, batcher: Batcher) -> Sample:
    """The batcher as it serves."""

    async def submit(item: Item) -> None:
        await batcher.submit(item, (case.output,), Deadline.after(ROUND_S))

    counted = batcher.statistics
    cost, padded = counted.cost, counted.padded_cost
    wall_s, cpu_s = await send_all(case.items, submit)
    waste = 1 - (counted.cost - cost) / (counted.padded_cost - padded)
    return Sample(len(case.items) / wall_s, cpu_s / len(case.items), waste)


async def run_by_count(case: Case, batcher: CountBatcher) -> Sample:
    """What it is compared with."""
    wall_s, cpu_s = await send_all(case.items, batcher.submit)
    return Sample(len(case.items) / wall_s, cpu_s / len(case.items), batcher.waste)


async def take_rounds(case: Case, rounds: int, progress: Progress) -> tuple[list[Sample], list[Sample]]:
    """Samples by cost and by count."""
    settings = InferenceSettings(intra_op_threads=THREADS, watch_s=0)
    repository = Repository(models_dir(state_dir(), case.service), case.service, settings, {})
    task = progress.add_task(case.name, total=rounds + 1)
    by_cost: list[Sample] = []
    by_count: list[Sample] = []
    try:
        await within(repository.load_model(case.graph), 60.0)
        await within(repository.wait_settled(), 60.0)
        graph = repository.graph(case.graph)
        await asyncio.to_thread(measure_batches, repository, case.graph)
        pad = graph.loaded.signature.batching.pad
        if pad is None:
            raise SystemExit(
                f"{case.graph}: its artifact is an old one: run `sensorium models pull {case.graph}`"
            )
        other = CountBatcher(graph.loaded.session, pad, case.output, graph.loaded.max_batch_size)
        # Both once before, so that memory is taken and run times are learned.
        for n in range(rounds + 1):
            turns = [(by_cost, run_by_cost(case, graph.batcher)), (by_count, run_by_count(case, other))]
            for samples, run in turns if n % 2 == 0 else reversed(turns):
                samples.append(await run)
            progress.advance(task)
    finally:
        await within(repository.close(), 60.0)
    return by_cost[1:], by_count[1:]


def measure_batches(repository: Repository, name: str) -> None:
    """What a replica does once its models answer."""
    model = repository.model(name, "")
    golden = model.artifact.read_golden()
    model.measure_batches(
        {
            key: {
                tensor.name: golden[f"{key}/in/{tensor.name}"] for tensor in model.artifact.graphs[key].inputs
            }
            for key in model.graphs
        }
    )


def make_rows(case: Case, by_cost: Sequence[Sample], by_count: Sequence[Sample], how: str) -> list[Row]:
    """Throughput, CPU and filling of both, and how they compare."""
    name = f"batching/{case.name}"
    rows = []
    for way, samples in (("by_cost", by_cost), ("by_count", by_count)):
        per_s, cpu_s = [one.per_s for one in samples], [1e3 * one.cpu_s for one in samples]
        rows.append(judge(f"{name}/{way}/throughput", per_s, f"{case.unit}/s", how))
        rows.append(judge(f"{name}/{way}/cpu", cpu_s, f"ms/{case.unit.rstrip('s')}", how))
    faster = [one.per_s / other.per_s for one, other in zip(by_cost, by_count, strict=True)]
    cheaper = [other.cpu_s / one.cpu_s for one, other in zip(by_cost, by_count, strict=True)]
    waste = [one.waste for one in by_cost]
    return [
        *rows,
        judge(f"{name}/throughput_over_by_count", faster, "x by count", how, at_least=case.bar),
        judge(f"{name}/cpu_saved_over_by_count", cheaper, "x by count", how),
        judge(f"{name}/by_cost/padding_waste", waste, "of the batch", how, at_most=MOST_WASTE),
        judge(f"{name}/by_count/padding_waste", [one.waste for one in by_count], "of the batch", how),
    ]


async def measure_cases(rounds: int) -> list[Row]:
    """All cases, one after the other."""
    rows = []
    with Progress(transient=True) as progress:
        for case in make_cases():
            by_cost, by_count = await take_rounds(case, rounds, progress)
            how = (
                f"{len(case.items)} {case.unit} a round, {CALLERS} callers, {THREADS} intra-op thread, "
                f"{describe_machine()}"
            )
            rows += make_rows(case, by_cost, by_count, how)
    why = (
        "Moonshine's graphs are quantised dynamically, with one scale over all that runs together: a clip's text would "
        "depend on its neighbours, so that they run alone"
    )
    rows.append(
        Row(
            "batching/moonshine/throughput_over_by_count",
            None, None, None, "x by count", f">= {FASTER:g}", "not measured", why,
        )
    )  # fmt: skip
    return rows


def measure(rounds: int) -> list[Row]:
    """One repository per case, both ways in turns."""
    return asyncio.run(measure_cases(rounds))
