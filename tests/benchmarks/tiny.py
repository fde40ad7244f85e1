"""What everything around a model costs: one tiny matrix product (16 to 4) over the Open Inference Protocol.

Every figure is the CPU time of a replica per message (logs, metrics, load reports, admission and batching on) over that of
a bare grpc.aio echo of the same bytes in the same round. Plain unary calls come from h2load. It cannot show a client's
certificate, nor wait for a reply before it sends a stream's next message: those calls come from a grpc.aio client, for both
sides of the ratio.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import grpc
import numpy as np
from rich.progress import Progress
from sensorium.oip.v2 import inference_pb2, inference_pb2_grpc

from shared.inference.artifact import write_artifact
from tests.benchmarks.caller import Callers, calling
from tests.benchmarks.echo import BIDI, SERVICE, UNARY
from tests.benchmarks.load import process_cpu_s, require_h2load, run_load, write_body
from tests.benchmarks.report import Row, describe_machine, judge, median_interval
from tests.mesh.running import ROOT
from tests.shared.inference.graphs import draft_of, entry_of, linear
from tests.support.certificates import write_certificates

MODEL = "tiny"
METHODS = {
    "unary": "inference.GRPCInferenceService/ModelInfer",
    "bidi": "inference.GRPCInferenceService/ModelStreamInfer",
}
ECHOES = {"unary": f"{SERVICE}/{UNARY}", "bidi": f"{SERVICE}/{BIDI}"}
# CPU time is counted in ticks of 10 ms: enough messages for some tens of them.
MESSAGES = {1: 3000, 32: 9600}
# Of native, plain, unary.
BARS = {1: 0.8, 32: 0.30}
START_S = 60.0


@dataclass(frozen=True)
class Place:
    """A process that answers."""

    address: str
    pid: int


@dataclass(frozen=True)
class Run:
    """One figure: which server is called how, by how many."""

    server: str  # echo, native, grpcio
    kind: str  # unary, bidi
    security: str  # plain, mtls
    callers: int


# Those of one ratio beside each other: the machine changes from minute to minute.
RUNS = [
    Run(server, kind, security, callers)
    for kind, security, callers, server in product(
        METHODS, ("plain", "mtls"), MESSAGES, ("echo", "native", "grpcio")
    )
    if (server, security) != ("native", "mtls")
]


def make_request() -> bytes:
    """One row of 16 numbers."""
    request = inference_pb2.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 16])
    request.raw_input_contents.append(np.arange(16, dtype=np.float32).tobytes())
    return request.SerializeToString()


@contextmanager
def started(command: list[str], log: Path, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """A process of ours; what it logs goes to a file, as it would in production."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SENSORIUM_")}
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env={**clean, **environ},
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def serving_tiny(folder: Path, front: str, certificates: Path | None) -> Iterator[Place]:
    """The text service with the tiny model for its only one."""
    models = folder / "models"
    if not models.exists():
        write_artifact(models, entry_of(MODEL, service="nlp"), draft_of(linear(64)))
    name = f"{front}-{'plain' if certificates is None else 'mtls'}"
    address_file = folder / f"{name}.address"
    environ = {
        "SENSORIUM_STATE_DIR": str(folder / name),
        "SENSORIUM_NLP_INFERENCE__MODELS_DIR": str(models),
        "SENSORIUM_NLP_INFERENCE__SIGNATURE__REQUIRED": "false",
        "SENSORIUM_NLP_RPC__FRONT": front,
        "SENSORIUM_NLP_RPC__METRICS_ADDRESS": "127.0.0.1:0",
        "SENSORIUM_NLP_RPC__ADDRESS_FILE": str(address_file),
    }
    if certificates is not None:
        for setting, file in (("CERTIFICATE", "server.crt"), ("KEY", "server.key"), ("CLIENT_CA", "ca.crt")):
            environ[f"SENSORIUM_NLP_RPC__TLS_{setting}_FILE"] = str(certificates / file)
    log = folder / f"{name}.log"
    with started(["services.nlp"], log, **environ) as process:
        until_s = time.monotonic() + START_S
        # How long its runs take is measured a moment later: the first round, which is thrown away, has time for it.
        while not (address_file.exists() and '"model ready"' in log.read_text()):
            if process.poll() is not None or time.monotonic() > until_s:
                raise SystemExit(f"the replica did not start: {log.read_text()[-500:]}")
            time.sleep(0.05)
        yield Place(address_file.read_text().strip(), process.pid)


@contextmanager
def serving_echo(folder: Path, certificates: Path | None) -> Iterator[Place]:
    """The other side of the ratio."""
    arguments = [] if certificates is None else [str(certificates)]
    log = folder / f"echo{len(arguments)}.log"
    with started(["tests.benchmarks.echo", *arguments], log) as process:
        assert process.stdout is not None
        yield Place(process.stdout.readline().strip(), process.pid)


def count_answered(address: str) -> int:
    """Rows that a replica has answered, by its own count."""
    with grpc.insecure_channel(address) as channel:
        stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        reply = stub.ModelStatistics(inference_pb2.ModelStatisticsRequest(name=MODEL), timeout=10)
    return int(reply.model_stats[0].inference_count)


def measure_run(run: Run, place: Place, callers: Callers, body: Path, certificates: Path) -> float:
    """CPU seconds of the server per message."""
    messages = MESSAGES[run.callers]
    method = (ECHOES if run.server == "echo" else METHODS)[run.kind]
    if run.kind == "unary" and run.security == "plain":
        counts = run.server != "echo"
        answered = count_answered(place.address) if counts else 0
        cpu_s = process_cpu_s(place.pid)
        run_load(place.address, method, body, callers=run.callers, requests=messages)
        cpu_s = process_cpu_s(place.pid) - cpu_s
        if counts and (got := count_answered(place.address) - answered) != messages:
            raise SystemExit(f"{method}: {messages} calls ran the model {got} times: some failed")
        return cpu_s / messages
    cpu_s = process_cpu_s(place.pid)
    callers.run(
        address=place.address,
        method=method,
        body=make_request().hex(),
        callers=run.callers,
        messages=messages,
        bidi=run.kind == "bidi",
        certificates=None if run.security == "plain" else str(certificates),
    )
    return (process_cpu_s(place.pid) - cpu_s) / messages


def take_rounds(rounds: int, folder: Path) -> dict[Run, list[float]]:
    """All figures, `rounds` times, every second time backwards, after one time that is thrown away."""
    certificates = folder / "certificates"
    write_certificates(certificates)
    body = write_body(make_request(), folder / "body")
    taken: dict[Run, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        places: dict[tuple[str, str], Place] = {}
        for run in RUNS:
            if (key := (run.server, run.security)) not in places:
                secured = certificates if run.security == "mtls" else None
                places[key] = stack.enter_context(
                    serving_echo(folder, secured)
                    if run.server == "echo"
                    else serving_tiny(folder, run.server, secured)
                )
        callers = stack.enter_context(calling())
        progress = stack.enter_context(Progress(transient=True))
        task = progress.add_task("measuring", total=(rounds + 1) * len(RUNS))
        for n in range(rounds + 1):
            for run in RUNS if n % 2 == 0 else reversed(RUNS):
                place = places[run.server, run.security]
                cpu_s = measure_run(run, place, callers, body, certificates)
                if n:
                    taken[run].append(cpu_s)
                progress.advance(task)
    return taken


def make_rows(taken: dict[Run, list[float]], machine: str) -> list[Row]:
    """The ratio of each run over the echo's of the same round, and the echo itself."""
    rows = []
    for kind, security, callers in product(METHODS, ("plain", "mtls"), MESSAGES):
        base = taken[Run("echo", kind, security, callers)]
        generator = "h2load" if (kind, security) == ("unary", "plain") else "a grpc.aio client"
        how = f"{callers} callers of {generator}, {len(make_request())} bytes, {machine}"
        for front in ("native", "grpcio"):
            name = f"tiny/{kind}/{front}/{security}/{callers}"
            if (front, security) == ("native", "mtls"):
                why = "the native front serves no TLS: an Envoy before its Unix socket does, whose cost is the gateway's"
                rows.append(Row(name, None, None, None, "x echo", "", "not measured", why))
                continue
            samples = taken[Run(front, kind, security, callers)]
            micro = 1e6 * median_interval(samples)[0]
            ratios = [sample / other for sample, other in zip(samples, base, strict=True)]
            bar = BARS[callers] if (kind, front, security) == ("unary", "native", "plain") else None
            rows.append(judge(name, ratios, "x echo", f"{micro:.1f} us a message; {how}", at_most=bar))
        rows.append(
            judge(f"tiny/{kind}/echo/{security}/{callers}", [1e6 * one for one in base], "us/message", how)
        )
    return rows


def measure(rounds: int) -> list[Row]:
    """Replicas and echoes side by side, called in turns."""
    require_h2load()
    with tempfile.TemporaryDirectory() as scratch:
        return make_rows(take_rounds(rounds, Path(scratch)), describe_machine())
