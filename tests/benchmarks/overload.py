"""Beyond saturation: what is still answered, how fast the rest is refused, and what a noisy tenant costs a quiet one.

One replica of the language service with one intra-op thread, MiniLM over the Open Inference Protocol with texts of 200
tokens (20 ms of one core and more), direct, all settings at their defaults. Calls come at a steady pace whether or not
others are answered, and their latency counts from the instant at which they were due. Capacity is the highest rate at which
p99 stays below twice that of calls one at a time, found by bisection in the same run. Every round takes each load once.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.progress import Progress
from sensorium.oip.v2 import inference_pb2

from tests.benchmarks.generator import Result, Stream
from tests.benchmarks.open_loop import Run, latencies_s, open_loop, percentile
from tests.benchmarks.replica import running_replica
from tests.benchmarks.report import Row, describe_machine, judge

METHOD = "inference.GRPCInferenceService/ModelInfer"
TOKENS = 200
# Seconds. The search needs some hundred calls a step for a p99; three times capacity is held for as long as was asked for.
ALONE_S, STEP_S, USUAL_S, OVERLOAD_S, TENANTS_S, CLOSED_S = 10.0, 8.0, 20.0, 60.0, 40.0, 10.0
STEPS = 6
# Until the door knows of the overload and the queue that formed meanwhile is through; not counted in p99, but in goodput.
ONSET_S = 5.0
CALLERS = 64
REFUSED = "RESOURCE_EXHAUSTED"


def make_body() -> bytes:
    """One text of made-up words."""
    request = inference_pb2.ModelInferRequest(model_name="minilm")
    ids = np.random.default_rng(7).integers(2000, 20000, (1, TOKENS), dtype=np.int64)
    for name, array in (("input_ids", ids), ("attention_mask", np.ones_like(ids))):
        request.inputs.add(name=name, datatype="INT64", shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return request.SerializeToString()


def find_capacity(run: Run, unloaded_s: float, mean_s: float, tick: Progress) -> float:
    """The highest rate, within 3 %, at which p99 stays below twice `unloaded_s`; mean_s: of calls one at a time."""
    low, high = 0.2 / mean_s, 1.2 / mean_s
    task = tick.add_task("capacity", total=STEPS)
    for _ in range(STEPS):
        rate = (low + high) / 2
        result = run(STEP_S, [Stream("tenant", rate)])
        took_s = latencies_s(result.streams[0])
        good = len(took_s) == len(result.streams[0].codes) and percentile(took_s, 0.99) < 2 * unloaded_s
        low, high = (rate, high) if good else (low, rate)
        tick.advance(task)
    return low


def take_round(run: Run, capacity: float) -> Mapping[str, float]:
    """Each load once: below capacity, far beyond it, and two tenants of whom one is noisy."""
    usual = run(USUAL_S, [Stream("tenant", 0.8 * capacity)])
    usual_s = percentile(latencies_s(usual.streams[0]), 0.99)
    beyond = run(OVERLOAD_S, [Stream("tenant", 3 * capacity)])
    calls = beyond.streams[0]
    # At random: at a steady pace the quiet one's calls would meet the other's at the same point of each of them.
    quiet = Stream("quiet", 0.2 * capacity, poisson=True)
    fair = run(TENANTS_S, [quiet, Stream("other", 0.6 * capacity, poisson=True)])
    noisy = run(ONSET_S + TENANTS_S, [quiet, Stream("other", 3 * capacity, poisson=True)])
    quiet_s = percentile(latencies_s(fair.streams[0]), 0.99)
    beside_noisy_s = percentile(latencies_s(noisy.streams[0], since_s=ONSET_S), 0.99)
    onset = [due_s for due_s, took_s in zip(calls.due_s, calls.took_s, strict=True) if took_s > 2 * usual_s]
    return {
        "p99_at_0.8": usual_s * 1e3,
        "refused_at_0.8": usual.streams[0].codes.count(REFUSED),
        "goodput": calls.codes.count("OK") / OVERLOAD_S / capacity,
        "other_codes": len(calls.codes) - calls.codes.count("OK") - calls.codes.count(REFUSED),
        "refusal": percentile(latencies_s(calls, REFUSED), 0.5) * 1e3,
        "admitted_p99": percentile(latencies_s(calls, since_s=ONSET_S), 0.99) / usual_s,
        "onset": max((due_s for due_s in onset if due_s < 2 * ONSET_S), default=0.0),
        "generator": beyond.cpu_s / beyond.wall_s,
        "quiet_p99": beside_noisy_s / quiet_s,
        "quiet_refused": noisy.streams[0].codes.count(REFUSED) / max(len(noisy.streams[0].codes), 1),
    }


def count_refused(result: Result) -> int:
    """Calls of all streams that were not answered."""
    return sum(code != "OK" for calls in result.streams for code in calls.codes)


def measure(rounds: int) -> list[Row]:
    """One row a figure; a round takes two minutes."""
    return asyncio.run(_measure(rounds))


async def _measure(rounds: int) -> list[Row]:
    samples: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, Progress(transient=True) as progress:
        body = Path(folder) / "body"
        body.write_bytes(make_body())
        settings = {"inference__intra_op_threads": "1"}
        async with running_replica("services.nlp", "nlp", **settings) as replica:
            with open_loop(replica.address, METHOD, body) as run:
                run(3.0, [Stream("tenant", callers=1)])
                alone = latencies_s(run(ALONE_S, [Stream("tenant", callers=1)]).streams[0])
                unloaded_s, mean_s = percentile(alone, 0.99), sum(alone) / len(alone)
                capacity = find_capacity(run, unloaded_s, mean_s, progress)
                closed = count_refused(run(CLOSED_S, [Stream("tenant", callers=CALLERS)]))
                task = progress.add_task("rounds", total=rounds)
                for _ in range(rounds):
                    for name, value in take_round(run, capacity).items():
                        samples[name].append(value)
                    progress.advance(task)
    return make_rows(samples, unloaded_s, mean_s, capacity, closed)


def make_rows(
    samples: Mapping[str, Sequence[float]], unloaded_s: float, mean_s: float, capacity: float, closed: int
) -> list[Row]:
    """The table."""
    how = (
        f"MiniLM, one text of {TOKENS} tokens a call, OIP gRPC to one replica, native front, 1 intra-op thread, default"
        f" settings; steady open loop; {describe_machine()}"
    )
    beyond = f"3 x capacity for {OVERLOAD_S:g} s; {how}"
    tenants = f"quiet tenant at 0.2 of capacity beside another at 3 x capacity over beside one at 0.6, at random; {how}"

    def plain(name: str, value: float, unit: str, said: str) -> Row:
        return Row(f"overload/{name}", value, value, value, unit, "", "no bar", said)

    def none(name: str, count: float, unit: str, said: str) -> Row:
        return Row(f"overload/{name}", count, count, count, unit, "== 0", count == 0, said)

    return [
        plain("mean latency unloaded", mean_s * 1e3, "ms", f"one call at a time; {how}"),
        plain("p99 unloaded", unloaded_s * 1e3, "ms", f"one call at a time; {how}"),
        plain("capacity", capacity, "calls/s", f"highest rate with p99 < 2 x unloaded; {how}"),
        none(f"refused of {CALLERS} closed-loop callers", closed, "calls", how),
        none("refused at 0.8 load", sum(samples["refused_at_0.8"]), "calls", how),
        judge("overload/p99 at 0.8 load", samples["p99_at_0.8"], "ms", how),
        judge("overload/goodput over capacity", samples["goodput"], "x", beyond, at_least=0.9),
        judge("overload/refusal median", samples["refusal"], "ms", beyond, at_most=20),
        judge(
            "overload/admitted p99 over p99 at 0.8 load",
            samples["admitted_p99"],
            "x",
            f"without the first {ONSET_S:g} s; {beyond}",
            at_most=2,
        ),
        judge("overload/onset", samples["onset"], "s", f"until calls are as fast as above; {beyond}"),
        none("neither answered nor refused", sum(samples["other_codes"]), "calls", beyond),
        judge("overload/generator CPU", samples["generator"], "cores", beyond, at_most=0.15),
        judge("overload/quiet tenant's p99", samples["quiet_p99"], "x", tenants, at_most=1.2),
        judge("overload/quiet tenant's refused share", samples["quiet_refused"], "x", tenants),
    ]
