"""A process that runs models under guards and then dies in one way: `python -m …dying FOLDER WAY GRAPH…`.

Every graph is a model of its file's name and waits in a run of its own, except for the first, which dies.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np

from shared.inference.isolation.isolation import Isolation
from shared.inference.isolation.settings import IsolationSettings
from shared.inference.session.session import RunOptions, Session

LOWEST = np.iinfo(np.int64).min
# Side of the image for which `deaf` computes for hours.
HOURS = 4096
# Turns of the loop of `slow` that last until the process is dead.
FOR_EVER = 2**40


def open_session(isolation: Isolation, file: Path, threads: int) -> Session:
    """Load a model under its marker."""
    with isolation.loading(file.stem, "1", f"sha256:{file.stem}"):
        return Session(file, intra_op_threads=threads)


def run(
    isolation: Isolation,
    file: Path,
    session: Session,
    value: np.ndarray,
    begun: threading.Event,
    threads: int = 1,
) -> None:
    """Run a model under its guard. With several threads this one gives way to the runtime's own."""
    if threads > 1:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    guard = isolation.guard(file.stem, "1", "model", f"sha256:{file.stem}")
    options = RunOptions()
    guard.begin(options, 0.0)
    begun.set()
    session.run({"x": value}, ["y"], options)


def begin(isolation: Isolation, file: Path, value: np.ndarray, threads: int = 1) -> threading.Thread:
    """Run a model on a thread of its own; returns once it runs."""
    begun = threading.Event()
    session = open_session(isolation, file, threads)
    thread = threading.Thread(target=run, args=(isolation, file, session, value, begun, threads), daemon=True)
    thread.start()
    assert begun.wait(10)
    return thread


def overflow(isolation: Isolation) -> None:
    """Use up this thread's stack in native code, as a graph that nests too deep would."""
    guard = isolation.guard("deep", "1", "model", "sha256:deep")
    guard.begin(RunOptions(), 0.0)
    libc = ctypes.CDLL(None)
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    pair = (ctypes.c_int * 2)(1, 2)

    @compare
    def again(_one: int, _other: int) -> int:
        libc.qsort(pair, 2, 4, again)
        return 0

    sys.setrecursionlimit(10**9)
    libc.qsort(pair, 2, 4, again)


async def main(folder: Path, way: str, files: list[Path]) -> None:
    isolation = Isolation(folder, "test", IsolationSettings(grace_s=0.2))
    for file in files[1:]:
        begin(isolation, file, np.array([FOR_EVER]))
    first = files[0]
    if way == "load":
        open_session(isolation, first, 1)
    elif way == "run":
        begin(isolation, first, np.array([LOWEST])).join()
    elif way == "pool":
        # The second half of a large array is for a thread of ONNX Runtime's own, unless the first one is done before.
        value = np.ones(10_000_000, np.int64)
        value[-1] = LOWEST
        begin(isolation, first, value, threads=2).join()
    elif way == "elsewhere":
        begin(isolation, first, np.array([FOR_EVER]))
        os.abort()
    elif way == "overflow":
        thread = threading.Thread(target=overflow, args=(isolation,))
        thread.start()
        thread.join()
    elif way == "killed":
        begin(isolation, first, np.array([FOR_EVER]))
        os.kill(os.getpid(), signal.SIGKILL)
    elif way == "loop":
        run(isolation, first, open_session(isolation, first, 1), np.array([HOURS]), threading.Event())
    elif way == "ends":
        begin(isolation, first, np.array([1])).join()
        isolation.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], [Path(name) for name in sys.argv[3:]]))
