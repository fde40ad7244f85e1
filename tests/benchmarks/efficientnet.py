"""What the mesh costs over bare ONNX Runtime, on EfficientNet at 1, 8 and 32 callers, in one run.

Every round takes each figure once, every second round in reverse order, so that a drifting machine weighs on all
alike. The replica and the bare session use one intra-op thread each. CPU time is the kernel's, of the whole process;
the generator's own is reported beside it.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import grpc
import numpy as np
from PIL import Image
from rich.progress import Progress
from sensorium.oip.v2 import inference_pb2, inference_pb2_grpc
from sensorium.vision.v1 import vision_service_pb2

from cli.place import models_dir
from cli.pull.samples import fetch_sample
from shared.settings import state_dir
from tests.benchmarks.load import process_cpu_s, require_h2load, run_load, write_body
from tests.benchmarks.report import Row, describe_machine, judge
from tests.mesh.running import (
    ROOT,
    RunningMesh,
    gateway_pids,
    make_state,
    replica_pids,
    running_mesh,
)

MODEL = "efficientnet-lite0"
OIP = "inference.GRPCInferenceService/ModelInfer"
TYPED = "sensorium.vision.v1.VisionService/ClassifyImage"
CALLERS = (1, 8, 32)
# Enough images for two seconds of one core: CPU time is counted in ticks of 10 ms.
IMAGES = {1: 128, 8: 192, 32: 256}
# Runs of bare sessions by batch: the best of them is the limit, one for CPU time and one for throughput.
BARE = {1: 160, 8: 20, 32: 6}
THREADS = 1
# Of 32 callers over the Open Inference Protocol: CPU time of the replica, and of the gateway, over the limit's; images per
# second over the limit's.
REPLICA_CPU, THROUGH_CPU, GATEWAY_CPU, THROUGHPUT = 1.08, 1.15, 0.12, 0.92


@dataclass(frozen=True)
class Sample:
    """One run: CPU seconds per image of each process, and images per second."""

    replica_s: float
    gateway_s: float
    generator_s: float
    per_s: float


@contextlib.contextmanager
def bare_session(graph: Path) -> Iterator[Callable[[int], Sample]]:
    """The limit, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.bare", str(graph), str(THREADS)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    stdin, stdout = process.stdin, process.stdout
    stdout.readline()

    def measure(batch: int) -> Sample:
        stdin.write(f"{batch} {BARE[batch]}\n")
        stdin.flush()
        said = json.loads(stdout.readline())
        return Sample(said["cpu_s"] / said["images"], 0.0, 0.0, said["images"] / said["wall_s"])

    try:
        yield measure
    finally:
        stdin.close()
        process.wait(timeout=30)


def make_bodies(folder: Path, photo: Path) -> dict[str, Path]:
    """The same photo as a tensor of 600 kB and as a JPEG of its own size."""
    rng = np.random.default_rng(7)
    tensor = inference_pb2.ModelInferRequest(model_name=MODEL)
    tensor.inputs.add(name="image", datatype="FP32", shape=[1, 3, 224, 224])
    tensor.outputs.add(name="logits")
    tensor.raw_input_contents.append(rng.standard_normal((1, 3, 224, 224), dtype=np.float32).tobytes())
    jpeg = BytesIO()
    Image.open(photo).convert("RGB").save(jpeg, "JPEG", quality=90)
    image = vision_service_pb2.ClassifyImageRequest(
        images=[vision_service_pb2.Image(content=jpeg.getvalue())]
    )
    return {
        OIP: write_body(tensor.SerializeToString(), folder / "tensor"),
        TYPED: write_body(image.SerializeToString(), folder / "jpeg"),
    }


def answered(address: str) -> int:
    """Images the replica has answered so far, by its own count."""
    with grpc.insecure_channel(address) as channel:
        stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        reply = stub.ModelStatistics(inference_pb2.ModelStatisticsRequest(name=MODEL), timeout=10)
    return reply.model_stats[0].inference_count


def measure_load(
    mesh: RunningMesh, replica: str, bodies: dict[str, Path], method: str, callers: int, *, through: bool
) -> Sample:
    """One run against the replica or, through the gateway, against the mesh; every call must have run the model once."""
    (pid,) = replica_pids(mesh)["vision"]
    gateway = gateway_pids(mesh)
    images = IMAGES[callers]
    counted = answered(replica)
    before, between = process_cpu_s(pid), sum(map(process_cpu_s, gateway))
    load = run_load(
        mesh.address if through else replica,
        method,
        bodies[method],
        callers=callers,
        requests=images,
        token=mesh.token if through else None,
    )
    replica_s, gateway_s = process_cpu_s(pid) - before, sum(map(process_cpu_s, gateway)) - between
    if answered(replica) - counted != images:
        raise SystemExit(
            f"{method}: {images} calls ran the model {answered(replica) - counted} times: some failed"
        )
    return Sample(replica_s / images, gateway_s / images, load.generator_cpu_s / images, load.per_s)


def take_rounds(
    rounds: int, bare: Callable[[int], Sample], load: Callable[[str, int, bool], Sample]
) -> dict[str, list[Sample]]:
    """All figures, `rounds` times, every second time backwards."""
    plan: dict[str, Callable[[], Sample]] = {
        f"bare/{batch}": lambda batch=batch: bare(batch) for batch in BARE
    }
    for method, kind in ((OIP, "oip"), (TYPED, "jpeg")):
        for callers in CALLERS:
            for through, place in ((False, "replica"), (True, "gateway")):
                plan[f"{kind}/{place}/{callers}"] = lambda m=method, c=callers, t=through: load(m, c, t)
    taken: dict[str, list[Sample]] = defaultdict(list)
    with Progress(transient=True) as progress:
        task = progress.add_task("measuring", total=rounds * len(plan))
        for n in range(rounds):
            for name in list(plan) if n % 2 == 0 else reversed(plan):
                taken[name].append(plan[name]())
                progress.advance(task)
    return taken


def make_rows(taken: dict[str, list[Sample]], machine: str) -> list[Row]:
    """Figures and their ratios to the best of the bare runs of the same round."""
    bare = [[taken[f"bare/{batch}"][n] for batch in BARE] for n in range(len(taken["bare/1"]))]
    limit = [min(sample.replica_s for sample in samples) for samples in bare]
    fastest = [max(sample.per_s for sample in samples) for samples in bare]
    settings = f"{THREADS} intra-op thread, {machine}"
    rows = []
    for name, samples in taken.items():
        generator = statistics.median(sample.generator_s for sample in samples)
        how = f"{settings}; generator {1e3 * generator:.2f} ms CPU per image"
        rows.append(
            judge(f"efficientnet/{name}/cpu", [1e3 * sample.replica_s for sample in samples], "ms/image", how)
        )
        rows.append(
            judge(f"efficientnet/{name}/throughput", [sample.per_s for sample in samples], "images/s", how)
        )
        if name.startswith("bare"):
            continue
        aimed = name.startswith("oip/") and name.endswith("/32")
        through = "/gateway/" in name
        ratios = [sample.replica_s / base for sample, base in zip(samples, limit, strict=True)]
        bar = (THROUGH_CPU if through else REPLICA_CPU) if aimed else None
        rows.append(judge(f"efficientnet/{name}/cpu_over_bare", ratios, "x bare", how, at_most=bar))
        speeds = [sample.per_s / base for sample, base in zip(samples, fastest, strict=True)]
        bar = THROUGHPUT if aimed and not through else None
        rows.append(judge(f"efficientnet/{name}/throughput_over_bare", speeds, "x bare", how, at_least=bar))
        if through:
            shares = [sample.gateway_s / base for sample, base in zip(samples, limit, strict=True)]
            rows.append(
                judge(
                    f"efficientnet/{name}/gateway_cpu_over_bare",
                    shares,
                    "x bare",
                    how,
                    at_most=GATEWAY_CPU if aimed else None,
                )
            )
    return rows


def measure(rounds: int) -> list[Row]:
    """One mesh and one bare session, measured in turns."""
    require_h2load()
    state = state_dir()
    graph = next(models_dir(state, "vision").glob(f"{MODEL}/*/*.onnx"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bodies = make_bodies(folder, fetch_sample("cat", state).path)
        one_thread = {"SENSORIUM_VISION_INFERENCE__INTRA_OP_THREADS": str(THREADS)}
        flags = ("--replicas", "vision=1,nlp=0,speech=0")
        with (
            running_mesh(make_state(folder / "state", state / "models"), *flags, environ=one_thread) as mesh,
            bare_session(graph) as bare,
        ):
            replica = (mesh.state / "run/address/vision-0").read_text().strip()
            taken = take_rounds(
                rounds, bare, lambda m, c, t: measure_load(mesh, replica, bodies, m, c, through=t)
            )
    return make_rows(taken, describe_machine())
