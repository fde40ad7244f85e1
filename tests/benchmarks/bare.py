"""The limit to compare with: bare `InferenceSession.run` in a process of its own.

Reads lines `BATCH RUNS` on standard input, answers each with one JSON line `{"images", "wall_s", "cpu_s"}`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime


def main(graph: Path, threads: int) -> None:
    """Opens the graph with the replica's number of threads and serves runs until standard input ends."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(7)
    print("ready", flush=True)
    for line in sys.stdin:
        batch, runs = map(int, line.split())
        image = rng.standard_normal((batch, 3, 224, 224), dtype=np.float32)
        session.run(["logits"], {"image": image})
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        for _ in range(runs):
            session.run(["logits"], {"image": image})
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        print(json.dumps({"images": batch * runs, "wall_s": wall_s, "cpu_s": cpu_s}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
