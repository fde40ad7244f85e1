"""Runs a module that ends with its parent: `python -m cli.up.tether PARENT_PID MODULE ARGUMENT…`.

A supervisor that is killed cannot end its children, so they ask the kernel to: SIGTERM, which drains them. Nothing
else is imported here, because every process of the mesh starts this way.
"""

import os
import runpy
import signal
import sys
import threading
import time

# <linux/prctl.h>: the signal to get when the parent ends.
_PR_SET_PDEATHSIG = 1
# How often the parent is looked for where the kernel does not tell.
_LOOK_S = 1.0


def tether(parent: int) -> None:
    """Makes this process get SIGTERM when process `parent`, which started it, ends."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    # It may have ended before the kernel was asked.
    if os.getppid() != parent:
        raise SystemExit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    tether(int(sys.argv[1]))
    module = sys.argv[2]
    del sys.argv[1:3]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
