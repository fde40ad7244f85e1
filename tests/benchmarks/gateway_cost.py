"""What the gateway costs: CPU of a call, of a megabyte and of HTTP/JSON; memory, alone and for an idle connection."""

from __future__ import annotations

import contextlib
import selectors
import socket
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from google.protobuf.json_format import MessageToJson
from rich.progress import Progress

from cli.place import models_dir
from shared.settings import state_dir
from tests.benchmarks.load import run_load, write_body
from tests.benchmarks.memory import read_resident_bytes
from tests.benchmarks.report import Row, judge
from tests.benchmarks.workload import Case
from tests.mesh.running import RunningMesh, gateway_pids, make_state, running_mesh

# From 83 bytes to 960 kB; a line through them tells a call's cost from a byte's.
PROXIED = ("DetectLanguage", "RecognizeCommand", "ClassifyImage", "DetectSpeech", "ClassifyImage/12MP")
JSON = {"DetectLanguage": "/v1/texts:detectLanguage", "ClassifyImage": "/v1/images:classify"}
CALLERS = 8
# Calls of a round: enough for a fifth of a second of the gateway's, as far as the replicas allow.
CALLS = {
    "DetectLanguage": 600,
    "RecognizeCommand": 200,
    "ClassifyImage": 100,
    "DetectSpeech": 60,
    "ClassifyImage/12MP": 40,
}
IDLE_S = 5.0
CONNECTIONS = 500
# HTTP/2's opening words and an empty SETTINGS frame.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


def read_clock_s(pids: Sequence[int]) -> float:
    """CPU time of processes and all their threads, to the nanosecond."""
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def fit_line(points: Mapping[float, float]) -> tuple[float, float]:
    """Intercept and slope of the line of least squares through y by x."""
    mean_x, mean_y = statistics.fmean(points), statistics.fmean(points.values())
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points.items()) / sum(
        (x - mean_x) ** 2 for x in points
    )
    return mean_y - slope * mean_x, slope


@contextlib.contextmanager
def connected(address: str, count: int) -> Iterator[None]:
    """So many idle HTTP/2 connections, each of which was answered with the server's settings."""
    host, _, port = address.rpartition(":")
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        waiting = set()
        for _ in range(count):
            opened = stack.enter_context(socket.create_connection((host.strip("[]"), int(port)), timeout=10))
            opened.sendall(_PREFACE)
            selector.register(opened, selectors.EVENT_READ, opened)
            waiting.add(opened)
        deadline_s = time.monotonic() + 10
        while waiting and time.monotonic() < deadline_s:
            for key, _ in selector.select(0.1):
                key.data.recv(4096)
                waiting.discard(key.data)
        if waiting:
            raise SystemExit(f"the gateway did not greet {len(waiting)} of {count} connections")
        yield


def take_round(
    mesh: RunningMesh, envoy: Sequence[int], bodies: Mapping[str, tuple[str, Path]]
) -> dict[str, float]:
    """Envoy's CPU seconds of one call, of each kind."""
    taken = {}
    for name, (path, body) in bodies.items():
        calls = CALLS[name.removeprefix("json/")]
        before_s = read_clock_s(envoy)
        run_load(
            mesh.address,
            path.removeprefix("/"),
            body,
            callers=CALLERS,
            requests=calls,
            token=mesh.token,
            content_type="application/json" if name.startswith("json/") else "application/grpc",
        )
        taken[name] = (read_clock_s(envoy) - before_s) / calls
    return taken


def measure(rounds: int, cases: Sequence[Case], machine: str) -> list[Row]:
    """One mesh, a replica of each service."""
    chosen = {case.name: case for case in cases if case.name in PROXIED}
    samples: dict[str, list[float]] = defaultdict(list)
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as scratch, Progress(transient=True) as progress:
        folder = Path(scratch)
        bodies: dict[str, tuple[str, Path]] = {}
        for name, case in chosen.items():
            framed = write_body(case.body, folder / f"{len(bodies)}")
            bodies[name], sizes[name] = (case.method, framed), len(case.body)
        for name, path in JSON.items():
            text = folder / f"{len(bodies)}"
            text.write_text(MessageToJson(chosen[name].message))
            bodies[f"json/{name}"], sizes[f"json/{name}"] = (path, text), text.stat().st_size
        models = models_dir(state_dir(), "nlp").parent
        with running_mesh(make_state(folder / "state", models)) as mesh:
            control, *envoy = gateway_pids(mesh)
            task = progress.add_task("gateway", total=rounds)
            take_round(mesh, envoy, bodies)
            for _ in range(rounds):
                for name, value in take_round(mesh, envoy, bodies).items():
                    samples[name].append(value)
                progress.advance(task)
            before_s = read_clock_s([control]), read_clock_s(envoy)
            time.sleep(IDLE_S)
            idle_s = [
                after - before
                for before, after in zip(
                    before_s, (read_clock_s([control]), read_clock_s(envoy)), strict=True
                )
            ]
            resident = [sum(map(read_resident_bytes, pids)) for pids in ([control], envoy)]
            with connected(mesh.address, CONNECTIONS):
                held = sum(map(read_resident_bytes, envoy)) - resident[1]
    return [*make_rows(samples, sizes, machine), *make_idle_rows(idle_s, resident, held, machine)]


def make_rows(
    samples: Mapping[str, Sequence[float]], sizes: Mapping[str, int], machine: str
) -> Iterator[Row]:
    """CPU of each kind of call, and the line through those that are gRPC."""
    for name, values in samples.items():
        how = f"Envoy alone, a message of {sizes[name]} bytes, {CALLERS} callers; {machine}"
        yield judge(f"capacity/gateway/{name}/cpu", [1e3 * s for s in values], "ms/call", how)
    rounds = len(next(iter(samples.values())))
    lines = [fit_line({sizes[name] / 1e6: samples[name][n] for name in PROXIED}) for n in range(rounds)]
    how = f"line of least squares through the calls of {len(PROXIED)} sizes; {machine}"
    yield judge("capacity/gateway/per call", [1e3 * intercept for intercept, _ in lines], "ms", how)
    yield judge("capacity/gateway/per MB", [1e3 * slope for _, slope in lines], "ms", how)


def make_idle_rows(
    idle_s: Sequence[float], resident: Sequence[int], held: int, machine: str
) -> Iterator[Row]:
    """What is spent without a call."""
    for part, spent_s, size in zip(("control plane", "Envoy"), idle_s, resident, strict=True):
        cores, how = spent_s / IDLE_S, f"three replicas, no calls, for {IDLE_S:g} s; {machine}"
        yield Row(f"capacity/gateway/{part}/idle", cores, None, None, "cores", "", "no bar", how)
        how = f"resident after the load, three replicas; {machine}"
        yield Row(f"capacity/gateway/{part}/memory", size / 1e6, None, None, "MB", "", "no bar", how)
    how = f"{CONNECTIONS} idle HTTP/2 connections; {machine}"
    yield Row("capacity/gateway/connection", held / CONNECTIONS / 1e3, None, None, "kB", "", "no bar", how)
