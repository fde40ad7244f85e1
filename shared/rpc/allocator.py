"""The C library's allocator, set up for a process that answers calls. Not here: ONNX Runtime's own (`session.py`)."""

from __future__ import annotations

import ctypes
import os

# Of glibc's malloc.h.
_M_MMAP_THRESHOLD = -3
# Smaller blocks are worth keeping for the next call: taking 4 MiB anew costs a millisecond.
_LARGE_BYTES = 4 << 20


def free_large_blocks_at_once() -> bool:
    """Have blocks of 4 MiB and more go back to the system when they are freed; True if the C library is able to.

    glibc begins so, but with the first such block that is freed it takes up to 32 MiB for usual, and keeps blocks
    of that size in its heap, where a small one behind them holds them for ever. Images, clips and tensors have
    just these sizes: a speech replica that had seen clips of 10 minutes kept 424 MB, and keeps 245 with this; a
    vision replica after pages of all sizes 440 and 235. CPU per call stayed the same within 2 %.

    Whoever sets `MALLOC_MMAP_THRESHOLD_` or glibc's tunable of that name knows better.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ or "mmap_threshold" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in musl, nor on macOS
    return mallopt is not None and mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES) == 1


def give_back_free_memory() -> bool:
    """Have what was freed go back to the system; True if the C library was able to. Blocks, up to 3 ms.

    glibc keeps what small blocks leave between them. After a model was opened that is a third of what opening took (the
    file, and weights laid out anew: 55 MB of 163 for MiniLM), and after one was closed nearly half (46 MB).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # not in musl, nor on macOS
    return trim is not None and trim(0) == 1
